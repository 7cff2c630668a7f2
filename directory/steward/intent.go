package steward

import (
	"encoding/json"
	"fmt"
	"slices"

	"hayloft/directory"
)

// Intent is what operators asked for that is in no row. The fleet carries it from
// leader to leader; when the whole cluster stops at once it is forgotten, and has to
// be asked for again.
type Intent struct {
	V int `json:"v"`
	// Balance is the difference of fullness that is to be left, from 0 to 1; 0: nothing
	// is to be balanced.
	Balance float64 `json:"balance,omitempty"`
	// Nodes and Disks are to be declared gone as soon as nothing is on them.
	Nodes []directory.NodeID `json:"nodes,omitempty"`
	Disks []directory.DiskID `json:"disks,omitempty"`
	// Lost are disks that are away and whose replicas are to be made elsewhere without
	// waiting.
	Lost []directory.DiskID `json:"lost,omitempty"`
}

const intentVersion = 1

// Empty tells whether nothing was asked for.
func (i Intent) Empty() bool {
	return i.Balance == 0 && len(i.Nodes) == 0 && len(i.Disks) == 0 && len(i.Lost) == 0
}

func (i Intent) encode() string {
	if i.Empty() {
		return ""
	}
	i.V = intentVersion
	b, err := json.Marshal(i)
	if err != nil {
		panic(err) // numbers alone
	}
	return string(b)
}

// readIntent reads what is carried. What a later version carries is no intent of
// this one.
func readIntent(text string) (Intent, error) {
	var i Intent
	if text == "" {
		return i, nil
	}
	if err := json.Unmarshal([]byte(text), &i); err != nil || i.V != intentVersion {
		return Intent{}, fmt.Errorf("steward: the intent %.60q cannot be read", text)
	}
	return i, nil
}

// Change is one thing that an operator asks of the steward.
type Change struct {
	V int `json:"v"`
	// Balance sets Intent.Balance, 0 ends it.
	Balance *float64 `json:"balance,omitempty"`
	// Node and Disk are to be declared gone when they are empty, or not any more.
	Node directory.NodeID `json:"node,omitempty"`
	Disk directory.DiskID `json:"disk,omitempty"`
	Keep bool             `json:"keep,omitempty"`
	// Lost adds to Intent.Lost.
	Lost []directory.DiskID `json:"lost,omitempty"`
}

// with is an intent after a change.
func (i Intent) with(c Change) Intent {
	if c.Balance != nil {
		i.Balance = *c.Balance
	}
	i.Nodes = set(i.Nodes, c.Node, !c.Keep)
	i.Disks = set(i.Disks, c.Disk, !c.Keep)
	for _, d := range c.Lost {
		i.Lost = set(i.Lost, d, true)
	}
	return i
}

// set puts a number in or out. The slice is replaced.
func set[T ~uint32](all []T, n T, in bool) []T {
	switch {
	case n == 0 || in == slices.Contains(all, n):
		return all
	case in:
		return append(slices.Clone(all), n)
	}
	return slices.DeleteFunc(slices.Clone(all), func(o T) bool { return o == n })
}
