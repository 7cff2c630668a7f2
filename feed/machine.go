package feed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
)

const commandVersion = 1

// command is the body of one kind of command together with what it does.
type command interface {
	record
	// apply validates and changes, on the group's apply goroutine. An error
	// means that nothing is written: one of the feed's own errors is the answer
	// to the proposer, any other stops the replica.
	apply(t *tx) (outcome, error)
}

// envelope is what every command has around its body.
type envelope struct {
	Now         time.Time
	Idempotency *idempotency
	Body        []byte
}

func (r *envelope) fields(c *codec) {
	c.time(1, &r.Now)
	opt(c, 2, &r.Idempotency)
	c.raw(3, &r.Body)
}

// idempotency is the record that travels in a command.
type idempotency struct {
	Account     id.ID
	Hash        [32]byte // of route and key
	Fingerprint [32]byte // of the payload
	Due         time.Time
}

func (r *idempotency) fields(c *codec) {
	c.id(1, &r.Account)
	c.hash(2, &r.Hash)
	c.hash(3, &r.Fingerprint)
	c.time(4, &r.Due)
}

// outcome is what Apply hands to the proposer.
type outcome struct {
	ID       id.ID // what a repeat with the same idempotency key is answered with
	Repeated bool  // an earlier command with the same idempotency key did the work
	Count    int   // sweep: rows handled
	Asked    bool  // follow: it is a request now
}

func encodeCommand(now time.Time, idem *idempotency, cmd command) []byte {
	b := binary.AppendUvarint([]byte{commandVersion}, kindOf(cmd))
	return appendRecord(b, &envelope{Now: now, Idempotency: idem, Body: appendRecord(nil, cmd)})
}

func decodeCommand(b []byte) (envelope, command, error) {
	var env envelope
	if len(b) == 0 {
		return env, nil, corrupt("empty command")
	}
	if b[0] != commandVersion {
		return env, nil, fmt.Errorf("%w: command version %d", ErrUnsupported, b[0])
	}
	kind, rest, err := uvarint(b[1:])
	if err != nil {
		return env, nil, err
	}
	cmd := newCommand(kind)
	if cmd == nil {
		return env, nil, fmt.Errorf("%w: command kind %d", ErrUnsupported, kind)
	}
	if err := decodeRecord(rest, &env); err != nil {
		return env, nil, err
	}
	return env, cmd, decodeRecord(env.Body, cmd)
}

// refusals are the errors that answer a proposer. Every other error of a
// command means that this replica cannot say what the others did.
var refusals = []error{
	ErrNotFound, ErrHandleTaken, ErrConflict, ErrBytesMissing, ErrStored, ErrExpired,
	ErrForbidden, ErrInvalid, ErrIdempotencyReused,
}

func refusal(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r) {
			return true
		}
	}
	return false
}

// Machine is the feed's state machine (docs/feed-format.md). It keeps nothing
// in memory but who waits for what, how late it is elsewhere, and rows for those who
// read; no command looks at any of it.
type Machine struct {
	pending signals       // of commands whose batch is not committed yet; apply goroutine only
	latest  atomic.Uint64 // milliseconds of the latest command seen; written by the apply goroutine only
	watch   watch
	rows    rows
	// requeued counts how often effects that are not the newest became due at once.
	requeued atomic.Uint64
}

var _ raftgroup.Machine = (*Machine)(nil)

// NewMachine returns a machine for one group; hand it to raftgroup and, as
// Options.Machine, to Open.
func NewMachine() *Machine {
	m := new(Machine)
	m.watch.init()
	return m
}

// Apply implements raftgroup.Machine.
func (m *Machine) Apply(b *pebble.Batch, cmd []byte) (any, error) {
	env, body, err := decodeCommand(cmd)
	if err != nil {
		return nil, stop(err)
	}
	m.latest.Store(max(m.latest.Load(), millis(env.Now)))
	t := &tx{store: store{b}, now: env.Now}
	out, err := t.run(env.Idempotency, body)
	if err != nil {
		if refusal(err) {
			return nil, err
		}
		return nil, stop(err)
	}
	if err := t.flush(b); err != nil {
		return nil, stop(err)
	}
	m.rows.change(t.ops)
	m.pending.merge(t.woken)
	return out, nil
}

// stop makes err one that ends the group rather than answer a proposer.
func stop(err error) error { return fmt.Errorf("%w: %w", raftgroup.ErrUnsupported, err) }

// run applies cmd, or finds that an earlier command has done its work.
func (t *tx) run(idem *idempotency, cmd command) (outcome, error) {
	if idem != nil {
		earlier, err := t.idempotent(idem.Account, idem.Hash)
		if err != nil {
			return outcome{}, err
		}
		switch {
		case earlier == nil || !earlier.Due.After(t.now): // none, or one the sweeper will take
		case earlier.Fingerprint != idem.Fingerprint:
			return outcome{}, ErrIdempotencyReused
		default:
			return outcome{ID: earlier.Result, Repeated: true}, nil
		}
		if earlier != nil {
			t.del(dueKey(millis(earlier.Due), dueIdempotency, idempotencyKey(idem.Account, idem.Hash)[1:]))
		}
	}
	out, err := cmd.apply(t)
	if err != nil {
		return outcome{}, err
	}
	if idem != nil {
		key := idempotencyKey(idem.Account, idem.Hash)
		t.setRow(key, &idempotencyRow{Fingerprint: idem.Fingerprint, Result: out.ID, Due: idem.Due})
		t.setDue(dueIdempotency, key[1:], time.Time{}, idem.Due)
	}
	if v, err := t.meta(metaFormat); err != nil {
		return outcome{}, err
	} else if v == 0 {
		t.setMeta(metaFormat, formatVersion)
		t.setMeta(metaSwept, millis(t.now))                    // nothing can have ended before
		t.set(changeMetaKey(changeFilled), []byte{changesEnd}) // nor can anything be missing in the list of changes
	}
	return out, nil
}

func (s store) idempotent(account id.ID, hash [32]byte) (*idempotencyRow, error) {
	return load[idempotencyRow](s, idempotencyKey(account, hash))
}

// Applied implements raftgroup.Machine.
func (m *Machine) Applied(*pebble.DB, uint64) {
	m.rows.show()
	woken := m.pending
	m.pending = signals{}
	if woken.requeued {
		m.requeued.Add(1)
	}
	m.watch.wake(woken)
}

// Restored implements raftgroup.Machine: it refuses an instance of a newer
// format, and wakes everybody, since anything may have changed.
func (m *Machine) Restored(db *pebble.DB) error {
	m.rows.forget()
	v, err := store{db}.meta(metaFormat)
	if err != nil {
		return err
	}
	if v > formatVersion {
		return fmt.Errorf("%w: feed format %d, this program knows %d", ErrUnsupported, v, formatVersion)
	}
	m.pending = signals{}
	m.requeued.Add(1)
	m.watch.wakeAll()
	return nil
}
