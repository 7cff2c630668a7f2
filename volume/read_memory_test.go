package volume

import (
	"bytes"
	"context"
	"errors"
	"testing"
)

// TestMemoryIsBooked: memory for bytes from elsewhere counts until the Blob made
// of it is released, once, and who waits for some gives up with the context.
func TestMemoryIsBooked(t *testing.T) {
	b := NewReadBudget(100_000, 1)
	m, err := b.Memory(bg, 60_000)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Bytes()) != 60_000 || b.Held() < 60_000 {
		t.Fatalf("%d bytes, %d held", len(m.Bytes()), b.Held())
	}
	late, cancel := context.WithCancel(bg)
	cancel()
	if _, err := b.Memory(late, 60_000); !errors.Is(err, context.Canceled) {
		t.Fatalf("beyond the budget: %v", err)
	}
	copy(m.Bytes(), "whole")
	blob := m.Blob(7, &MasterInfo{Photo: 1, Owner: 2})
	if !bytes.HasPrefix(blob.Data, []byte("whole")) || blob.ETag != 7 || blob.Master.Owner != 2 {
		t.Fatalf("%d bytes, %+v", len(blob.Data), blob.Master)
	}
	blob.Release()
	m.Release()
	if b.Held() != 0 {
		t.Fatalf("%d bytes are held after the release", b.Held())
	}
	large, err := b.Memory(bg, 5<<20) // goes alone
	if err != nil {
		t.Fatal(err)
	}
	r := large.Range(10, 6<<20, 9, nil)
	if len(r.Data) != 5<<20 || r.Offset != 10 || r.Size != 6<<20 || r.ETag != 9 || b.Held() != 100_000 {
		t.Fatalf("%d bytes of %d at %d, %d held", len(r.Data), r.Size, r.Offset, b.Held())
	}
	r.Release()
	var none *ReadBudget
	if m, err := none.Memory(bg, 3); err != nil || len(m.Bytes()) != 3 || b.Held() != 0 {
		t.Fatalf("without a budget: %d bytes, %v; %d held", len(m.Bytes()), err, b.Held())
	}
}
