package rig

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// lookTime bounds a question to an admin listener.
const lookTime = 2 * time.Second

// Status is what hayloft cluster status says, as far as programs here ask.
type Status struct {
	Leader          string         `json:"leader"`
	UnderReplicated int            `json:"under_replicated"`
	Volumes         map[string]int `json:"volumes"`
	Survives        struct {
		Disk     int      `json:"disk"`
		Host     int      `json:"host"`
		Metadata int      `json:"metadata"`
		Because  []string `json:"because"`
	} `json:"survives"`
	Nodes []struct {
		Name string `json:"name"`
		Up   bool   `json:"up"`
	} `json:"nodes"`
}

// look asks the admin listener.
func (n *Node) look(ctx context.Context, path string, read func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.Admin+path, nil)
	if err != nil {
		return err
	}
	res, err := n.rig.o.Admin.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("rig: %s: %s is answered %d", n.Name, path, res.StatusCode)
	}
	return read(res.Body)
}

// Status asks this node how the cluster is.
func (n *Node) Status(ctx context.Context) (s Status, err error) {
	err = n.look(ctx, "/admin/cluster", func(r io.Reader) error { return json.NewDecoder(r).Decode(&s) })
	return s, err
}

// Ready asks the node whether it serves: nil, or what it says stands in the way.
func (n *Node) Ready(ctx context.Context) error {
	return n.look(ctx, "/readyz", func(io.Reader) error { return nil })
}

// Metric is one metric of this node, summed over its labels; 0 when it has none of
// that name yet.
func (n *Node) Metric(ctx context.Context, name string) (sum float64, err error) {
	err = n.look(ctx, "/metrics", func(r io.Reader) error {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			rest, ok := strings.CutPrefix(lines.Text(), name)
			if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
				continue
			}
			v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
			if err != nil {
				return err
			}
			sum += v
		}
		return lines.Err()
	})
	return sum, err
}
