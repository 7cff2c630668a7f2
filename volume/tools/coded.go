package tools

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"hayloft/volume"
	"hayloft/volume/coding"
	"hayloft/volume/coding/lifecycle"
	"hayloft/volume/server"
)

// The states of a row of a volume that is coded, or is being coded for the first
// time.
const (
	StateCoding = "coding" // its file serves, an encoder makes shards of it
	StateCoded  = "coded"  // its shards serve
)

// How a coded volume is.
const (
	HealthCoding     = "coding"     // it has no shards yet, and its file serves
	HealthRedundant  = "redundant"  // every shard is there, and every copy of the delete log
	HealthEndangered = "endangered" // it is served, with less than its policy promises
	HealthLost       = "lost"       // it cannot be served out of the shards that are there
)

// How a shard is.
const (
	ShardOK      = "ok"
	ShardDamaged = "damaged" // some places are not what they should be, and not repaired yet
	ShardAway    = "away"    // it cannot be read
)

// CodedList is every coded volume of a node, with those being coded.
type CodedList struct {
	Policy     string      `json:"policy"`    // K+M of the server; "" when it codes nothing
	Coded      int         `json:"coded"`     // volumes that shards serve, or should
	Coding     int         `json:"coding"`    // volumes that are being coded for the first time
	Redundant  int         `json:"redundant"` // of the coded
	Endangered []volume.ID `json:"endangered"`
	Lost       []volume.ID `json:"lost"`
	// Survives is how many disks may be lost, whichever, and every coded volume can
	// still be read; nil without one.
	Survives *int    `json:"survives"`
	Volumes  []Coded `json:"volumes"` // by number
}

// Whole reports whether every coded volume has all that its policy promises.
func (l *CodedList) Whole() bool { return len(l.Endangered) == 0 && len(l.Lost) == 0 }

// Coded is one volume that is coded or is being coded.
type Coded struct {
	ID         volume.ID `json:"id"`
	Class      string    `json:"class"`
	Health     string    `json:"health"`     // coding, redundant, endangered, lost
	State      string    `json:"state"`      // coding, coded (its source is kept yet), released; sealed when it was written anew and an older epoch serves
	Policy     string    `json:"policy"`     // K+M of its epoch
	Generation uint32    `json:"generation"` // of the source of the epoch
	Epoch      uint32    `json:"epoch"`
	Committed  *string   `json:"committed"` // when; nil before it is
	Bytes      int64     `json:"bytes"`     // of the source
	ShardBytes int64     `json:"shard_bytes"`
	LiveBytes  int64     `json:"live_bytes"`
	Survives   int       `json:"survives"` // how many more disks may be lost, whichever
	Shards     []Shard   `json:"shards"`   // none before they are committed
	Work       *Work     `json:"work"`     // nil: nothing is done with it
	Error      string    `json:"error,omitempty"`
	Retry      string    `json:"retry,omitempty"` // why the last job failed, which is tried again by itself
}

// Shard is one shard of a coded volume.
type Shard struct {
	Shard int        `json:"shard"`
	Disk  uint32     `json:"disk"` // the directory's number
	UUID  string     `json:"uuid"`
	Data  string     `json:"data"` // data directory; "" when the disk is in none
	State string     `json:"state"`
	Why   string     `json:"why,omitempty"`
	Since *time.Time `json:"since,omitempty"` // that it is away
	Log   string     `json:"log,omitempty"`   // why the disk's copy of the delete log does not count
}

// Work is what is under way.
type Work struct {
	Step  string    `json:"step"`
	Done  int64     `json:"done"` // bytes of the step
	Total int64     `json:"total"`
	Began time.Time `json:"began"`
	// ETA is how many seconds the step will take, as it went so far; nil while nobody
	// can tell.
	ETA *int64 `json:"eta_seconds"`
}

// place names the disk of a shard.
func (s *Shard) place() string {
	if s.Data == "" {
		return "disk " + s.UUID
	}
	return s.Data
}

// String is one line.
func (s *Shard) String() string {
	text := fmt.Sprintf("shard %d in %s: %s", s.Shard, s.place(), s.State)
	if s.Why != "" {
		text += ": " + s.Why
	}
	if s.Log != "" {
		text += "; its copy of the delete log does not count: " + s.Log
	}
	return text
}

// Whole is how many shards are.
func (c *Coded) Whole() (n int) {
	for _, s := range c.Shards {
		if s.State == ShardOK {
			n++
		}
	}
	return n
}

// Trouble says in one line what is wrong with the volume, with the exact shards;
// "" when nothing is.
func (c *Coded) Trouble() string {
	var away, damaged, logs []string
	for _, s := range c.Shards {
		n := fmt.Sprint(s.Shard)
		switch {
		case s.State == ShardAway:
			away = append(away, n)
		case s.State == ShardDamaged:
			damaged = append(damaged, n)
		case s.Log != "":
			logs = append(logs, s.place())
		}
	}
	var parts []string
	for _, p := range []struct {
		what string
		of   []string
	}{{"away: shards ", away}, {"damaged: shards ", damaged}, {"without a copy of its delete log: ", logs}} {
		if len(p.of) > 0 {
			parts = append(parts, p.what+strings.Join(p.of, ", "))
		}
	}
	if c.Health == HealthLost && len(away) > 0 {
		p, _ := coding.ParsePolicy(c.Policy) // written by codedOf
		parts = append(parts, fmt.Sprintf("%d of %d shards can be read, %d are needed", len(c.Shards)-len(away), len(c.Shards), p.Data))
	}
	if c.Error != "" {
		parts = append(parts, c.Error)
	}
	return strings.Join(parts, "; ")
}

// codedOf describes a volume. now is for the time that its work will take.
func codedOf(i server.CodedInfo, now time.Time) Coded {
	c := Coded{
		ID: i.Volume, Class: i.Class.String(), State: string(i.State), Generation: i.Generation, Epoch: i.Epoch,
		Bytes: i.Bytes, ShardBytes: i.ShardBytes, LiveBytes: i.LiveBytes, Survives: i.Survives, Shards: []Shard{},
	}
	if i.Policy != (coding.Policy{}) {
		c.Policy = i.Policy.String()
	}
	if !i.At.IsZero() {
		at := i.At.UTC().Format(time.RFC3339)
		c.Committed = &at
	}
	if i.Sick != nil {
		c.Error = OneLine(i.Sick)
	}
	if i.Retry != nil {
		c.Retry = OneLine(i.Retry)
	}
	if i.Work != "" {
		c.Work = &Work{Step: i.Work, Done: i.Done, Total: i.Total, Began: i.Began.UTC()}
		if spent := now.Sub(i.Began); i.Done > 0 && i.Total >= i.Done && spent > 0 {
			left := int64(spent.Seconds() * float64(i.Total-i.Done) / float64(i.Done))
			c.Work.ETA = &left
		}
	}
	for _, s := range i.Shards {
		c.Shards = append(c.Shards, shardOf(s))
	}
	c.Health = c.health(i)
	return c
}

func shardOf(s server.ShardInfo) Shard {
	out := Shard{Shard: s.Shard, Disk: s.Disk, UUID: s.UUID, Data: s.Dir, State: ShardOK}
	switch {
	case s.Away != nil:
		out.State, out.Why = ShardAway, OneLine(s.Away)
		if !s.Since.IsZero() {
			since := s.Since.UTC()
			out.Since = &since
		}
	case s.Damage > 0:
		out.State, out.Why = ShardDamaged, fmt.Sprintf("%d places are to be repaired", s.Damage)
	}
	if s.Log != nil {
		out.Log = OneLine(s.Log)
	}
	return out
}

// health judges by what the shards say. As long as the source is kept nothing is
// lost: it goes on when the shards cannot.
func (c *Coded) health(i server.CodedInfo) string {
	away, whole := 0, true
	for _, s := range c.Shards {
		if s.State == ShardAway {
			away++
		}
		whole = whole && s.State == ShardOK && s.Log == ""
	}
	switch {
	case len(c.Shards) == 0 && i.Sick == nil:
		return HealthCoding
	case (i.Sick != nil || away > i.Policy.Parity) && i.State != lifecycle.Coded:
		return HealthLost
	case i.Sick != nil || !whole:
		return HealthEndangered
	}
	return HealthRedundant
}

// count fills in everything that follows from the volumes.
func (l *CodedList) count() {
	*l = CodedList{Policy: l.Policy, Endangered: []volume.ID{}, Lost: []volume.ID{}, Volumes: l.Volumes}
	for i := range l.Volumes {
		c := &l.Volumes[i]
		if c.Health == HealthCoding {
			l.Coding++
			continue
		}
		l.Coded++
		if l.Survives == nil || c.Survives < *l.Survives {
			l.Survives = &c.Survives
		}
		switch c.Health {
		case HealthRedundant:
			l.Redundant++
		case HealthEndangered:
			l.Endangered = append(l.Endangered, c.ID)
		case HealthLost:
			l.Lost = append(l.Lost, c.ID)
		}
	}
}

// Only leaves the volumes that are wanted, all with none. One that is not there is
// ErrNotCoded.
func (l *CodedList) Only(wanted []volume.ID) error {
	if len(wanted) == 0 {
		return nil
	}
	for _, v := range wanted {
		if !slices.ContainsFunc(l.Volumes, func(c Coded) bool { return c.ID == v }) {
			return fmt.Errorf("%w: %d", ErrNotCoded, v)
		}
	}
	l.Volumes = slices.DeleteFunc(l.Volumes, func(c Coded) bool { return !slices.Contains(wanted, c.ID) })
	l.count()
	return nil
}

// Coded implements Keeper.
func (l *Local) Coded(ctx context.Context) (CodedList, error) {
	out := CodedList{Volumes: []Coded{}}
	if l.o.Policy != (coding.Policy{}) {
		out.Policy = l.o.Policy.String()
	}
	if _, err := l.o.Blobs.Volumes(); err != nil { // it was closed
		return out, err
	}
	now := l.o.Clock.Now()
	for _, i := range l.o.Blobs.Coded() {
		out.Volumes = append(out.Volumes, codedOf(i, now))
	}
	out.count()
	return out, ctx.Err()
}

// codedByVolume is the same, for listings.
func (l *Local) codedByVolume() map[volume.ID]*Coded {
	out := make(map[volume.ID]*Coded)
	now := l.o.Clock.Now()
	for _, i := range l.o.Blobs.Coded() {
		c := codedOf(i, now)
		out[c.ID] = &c
	}
	return out
}

// places are the data directories, or disks, that have a shard.
func (c *Coded) places() string {
	var all []string
	for _, s := range c.Shards {
		all = append(all, s.place())
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(a, b) })
	return strings.Join(slices.Compact(all), ",")
}

// fill adds to a row what the shards say.
func (c *Coded) fill(r *Row) {
	epoch, away := int64(c.Epoch), 0
	for _, s := range c.Shards {
		if s.State == ShardAway {
			away++
		} else {
			r.SizeBytes += c.ShardBytes
		}
	}
	n, of := len(c.Shards)-away, len(c.Shards)
	r.Epoch, r.Shards, r.ShardsOf, r.Data, r.Class = &epoch, &n, &of, c.places(), &c.Class
	if r.Retry == "" {
		r.Retry = c.Retry
	}
}
