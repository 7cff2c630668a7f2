package ssd

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/cache"
	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// bubble runs f in a bubble with a rig that lets in everything at once.
func bubble(t *testing.T, o Options, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, o)
		r.open(r.mem)
		f(r)
		r.close()
	})
}

var all = Options{everything: true}

func TestOptionsSayWhatIsWrong(t *testing.T) {
	_, err := Open(Options{Size: 1, Rate: -1, QueueBytes: -1, ReadTimeout: -1, MaxReads: -1})
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{"Dir", "Size", "Rate", "QueueBytes", "ReadTimeout", "MaxReads"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: nothing about %s", err, want)
		}
	}
}

func TestSecondHitIsLetIn(t *testing.T) {
	bubble(t, Options{}, func(r *rig) {
		k := keyOf(1, "small")
		r.offer(k)
		if r.has(k) {
			t.Error("let in at the first time")
		}
		r.offer(k)
		if !r.has(k) {
			t.Error("not let in at the second time")
		}
		r.offer(k)
		if s := r.Stats(); s.First != 1 || s.Admitted != 1 || s.Known != 1 || s.Objects != 1 || s.Hits != 1 || s.Misses != 1 || !s.Up {
			t.Errorf("stats %+v", s)
		}
	})
}

// What was seen two generations ago is forgotten, what was seen last is not.
func TestAdmissionForgets(t *testing.T) {
	a := newAdmission(100)
	for b := id.ID(1); b <= 100; b++ {
		a.again(keyOf(b, "small"))
	}
	if !a.again(keyOf(100, "small")) {
		t.Error("forgot the generation before")
	}
	for b := id.ID(1000); b < 1200; b++ {
		a.again(keyOf(b, "small"))
	}
	if a.again(keyOf(7, "small")) {
		t.Error("remembers for ever")
	}
}

func TestNewestStay(t *testing.T) {
	bubble(t, all, func(r *rig) {
		ks := keys(1, 400)
		r.offer(ks...)
		n := r.count(ks)
		if last := r.count(ks[len(ks)-50:]); last != 50 {
			t.Errorf("%d of the newest 50", last)
		}
		if first := r.count(ks[:80]); first != 0 {
			t.Errorf("%d of the oldest 80", first)
		}
		if s := r.Stats(); int64(n) != s.Objects || s.FileBytes > r.o.Size || s.Corrupt+s.Errors > 0 {
			t.Errorf("%d found, stats %+v", n, s)
		}
		if size, _ := r.mem.Stat("c/" + fileName); size.Size > r.o.Size {
			t.Errorf("the file takes %d bytes", size.Size)
		}
	})
}

// Wrong cookie, variant or extension: not there.
func TestKeyIsChecked(t *testing.T) {
	bubble(t, all, func(r *rig) {
		k := keyOf(1, "small")
		r.offer(k)
		for _, wrong := range []cache.Key{
			{Variant: k.Variant, Blob: k.Blob, Cookie: k.Cookie + 1, Ext: k.Ext}, {Variant: "large", Blob: k.Blob, Cookie: k.Cookie, Ext: k.Ext},
			{Variant: k.Variant, Blob: k.Blob, Cookie: k.Cookie, Ext: "webp"}, {Variant: k.Variant, Blob: 2, Cookie: k.Cookie, Ext: k.Ext},
		} {
			if r.has(wrong) {
				t.Errorf("%v is there", wrong)
			}
			// Also when the index says that it is where another is.
			dev := r.dev.Load()
			s, _ := dev.index.find(k.Blob, tagOf(k.Cookie, k.Variant, k.Ext))
			dev.index.put(int(s.region), row{wrong.Blob, tagOf(wrong.Cookie, wrong.Variant, wrong.Ext), s.unit, s.units})
			if r.has(wrong) {
				t.Errorf("%v is there", wrong)
			}
		}
		if !r.has(k) || r.Stats().Corrupt != 0 {
			t.Errorf("stats %+v", r.Stats())
		}
	})
}

func TestRestartFindsAll(t *testing.T) {
	for _, name := range []string{"closed", "killed"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, all, func(r *rig) {
				ks := keys(1, 200)
				r.offer(ks...)
				r.Purge(190) // of a closed region or the open one
				r.Purge(150)
				r.Purge(199)
				synctest.Wait()
				r.offer(keyOf(190, "small")) // it came back
				var before []cache.Key
				for _, k := range ks {
					if r.has(k) {
						before = append(before, k)
					}
				}
				mem := r.mem.Kill()
				r.close()
				if name == "closed" {
					mem = r.mem
				}
				r.open(mem)
				if n := r.count(before); n != len(before) || len(before) < 60 {
					t.Errorf("%d of %d", n, len(before))
				}
				if n := r.count(ks); n != len(before) {
					t.Errorf("%d came back that were purged", n-len(before))
				}
				if s := r.Stats(); s.Objects != int64(len(before)) || s.Errors+s.Corrupt > 0 {
					t.Errorf("stats %+v", s)
				}
			})
		})
	}
}

func TestPurgeOfWhatWaits(t *testing.T) {
	bubble(t, all, func(r *rig) {
		writing, hold := make(chan struct{}), make(chan struct{})
		r.offer(keyOf(9, "small")) // a region is open
		r.fail(func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpWrite {
				writing <- struct{}{}
				<-hold
			}
			return vfs.Outcome{}
		})
		r.Offer(keyOf(1, "small"), object(keyOf(1, "small")))
		<-writing
		r.Offer(keyOf(2, "small"), object(keyOf(2, "small")))
		r.Purge(1) // is being written
		r.Purge(2) // waits
		r.fail(nil)
		close(hold)
		synctest.Wait()
		if r.count(keys(1, 3)) != 0 {
			t.Error("there although purged")
		}
		mem := r.mem.Kill()
		r.close()
		r.open(mem)
		if n := r.count(keys(1, 3)); n != 0 {
			t.Errorf("a restart brought back %d that were purged", n)
		}
		if !r.has(keyOf(9, "small")) {
			t.Errorf("a restart lost something: %+v", r.Stats())
		}
	})
}

// A read that is under way when its blob is purged may still bring the bytes:
// who asked throws them away. Afterwards nobody finds them.
func TestPurgeWhileReading(t *testing.T) {
	bubble(t, all, func(r *rig) {
		k := keyOf(1, "small")
		r.offer(k)
		reading, hold := make(chan struct{}), make(chan struct{})
		r.fail(func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpRead {
				reading <- struct{}{}
				<-hold
			}
			return vfs.Outcome{}
		})
		got := make(chan bool)
		go func() { got <- r.has(k) }()
		<-reading
		r.Purge(1)
		r.fail(nil)
		close(hold)
		<-got // the bytes were compared, if there were any
		if r.has(k) {
			t.Error("there although purged")
		}
		if s := r.Stats(); s.Corrupt != 0 || s.Purged != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

// A region is written over while it is read: a miss, and nobody is alarmed.
func TestReadOfWhatIsWrittenOver(t *testing.T) {
	bubble(t, all, func(r *rig) {
		k := keyOf(1, "small")
		r.offer(k)
		reading, hold := make(chan struct{}), make(chan struct{})
		r.fail(func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpRead {
				reading <- struct{}{}
				<-hold
			}
			return vfs.Outcome{}
		})
		got := make(chan bool)
		go func() { got <- r.has(k) }()
		<-reading
		r.fail(nil)
		r.offer(keys(2, 300)...)
		close(hold)
		if <-got {
			t.Error("found what was written over")
		}
		if s := r.Stats(); s.Corrupt != 0 || r.told(Corrupt) != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestRateIsKept(t *testing.T) {
	bubble(t, Options{everything: true, Rate: 100 << 10, QueueBytes: 4 << 20, Size: 4 << 20, regionBytes: 64 << 10}, func(r *rig) {
		for _, k := range keys(1, 200) {
			r.Offer(k, object(k))
		}
		begun := time.Now()
		for r.Stats().Objects < 398 {
			time.Sleep(time.Second) // of the bubble
			// A second's worth may be had at once, and one batch too much.
			if n, most := r.Stats().Written, uint64((time.Since(begun)/time.Second+1)*100<<10+5*batchBytes/4); n > most {
				t.Errorf("%d bytes after %v", n, time.Since(begun))
				break
			}
		}
		if took := time.Since(begun); took < 2*time.Second {
			t.Errorf("all was written within %v", took)
		}
		// Closing does not wait for the rate.
		for _, k := range keys(200, 300) {
			r.Offer(k, object(k))
		}
	})
}

func TestTooMuchAtOnceIsRefused(t *testing.T) {
	bubble(t, Options{everything: true, QueueBytes: 10_000}, func(r *rig) {
		for _, k := range keys(1, 50) {
			r.Offer(k, object(k))
		}
		synctest.Wait()
		if s := r.Stats(); s.Refused == 0 || s.Admitted == 0 || s.Admitted+s.Refused != 98 {
			t.Errorf("stats %+v", s)
		}
		big := cache.Object{Data: make([]byte, regionBytes/4), ContentType: "image/jpeg", ETag: "x"}
		r.Offer(keyOf(1000, "small"), big)
		if r.queued > r.o.QueueBytes || r.has(keyOf(1000, "small")) {
			t.Error("took what is too large")
		}
	})
}

// A device that hangs: clients wait ReadTimeout, then not at all, and it is
// looked at again later.
func TestSlowDevice(t *testing.T) {
	bubble(t, Options{everything: true, MaxReads: 20}, func(r *rig) {
		ks := keys(1, 20)
		r.offer(ks...)
		hold := make(chan struct{})
		r.fail(func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpRead {
				<-hold
			}
			return vfs.Outcome{}
		})
		for i := range 50 {
			begun := time.Now()
			if r.has(ks[i%30]) {
				t.Error("read from a device that hangs")
			}
			if took := time.Since(begun); took > 100*time.Millisecond || i >= maxStrikes && took > 0 {
				t.Errorf("read %d took %v", i, took)
			}
		}
		if s := r.Stats(); s.Up || s.Timeouts != maxStrikes || s.Objects != 0 {
			t.Errorf("stats %+v", s)
		}
		r.offer(keyOf(500, "small")) // nor is it written to
		r.fail(nil)
		close(hold)
		time.Sleep(2 * time.Second) // of the bubble
		if n := r.count(ks); n != len(ks) || !r.Stats().Up {
			t.Errorf("%d of %d are back, stats %+v", n, len(ks), r.Stats())
		}
		if r.told(Failed) != 1 || r.told(Ready) != 2 {
			t.Errorf("events %+v", r.events)
		}
	})
}

// More reads than MaxReads at once are misses.
func TestReadsAreBounded(t *testing.T) {
	bubble(t, Options{everything: true, MaxReads: 3}, func(r *rig) {
		ks := keys(1, 6)
		r.offer(ks...)
		hold := make(chan struct{})
		r.fail(func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpRead {
				<-hold
			}
			return vfs.Outcome{}
		})
		got := make(chan bool)
		for _, k := range ks[:3] {
			go func() { got <- r.has(k) }()
		}
		synctest.Wait()
		if r.has(ks[4]) {
			t.Error("a fourth read")
		}
		close(hold)
		for range 3 {
			if !<-got {
				t.Error("a miss")
			}
		}
	})
}

// A dead device, at any moment: no error, no wrong byte; it is back when it is.
func TestDeadDevice(t *testing.T) {
	bubble(t, all, func(r *rig) {
		ks := keys(1, 60)
		r.offer(ks...)
		here := r.count(ks)
		r.fail(func(vfs.Op) vfs.Outcome { return vfs.Outcome{Err: unix.EIO} })
		for range 3 {
			for _, k := range ks {
				if r.has(k) {
					t.Error("read from a dead device")
				}
			}
			r.offer(keys(100, 110)...)
			time.Sleep(10 * time.Minute)
		}
		if s := r.Stats(); s.Up || s.Errors == 0 {
			t.Errorf("stats %+v", s)
		}
		r.Purge(59) // while nobody can note it
		r.fail(nil)
		time.Sleep(2 * time.Minute)
		// The record of the purge has begun a new region, in the place of the oldest.
		if n := r.count(ks); n < here-14 || n > here-1 {
			t.Errorf("%d of %d are back", n, here)
		}
		if r.has(keyOf(59, "small")) {
			t.Error("purged while the device was away, and back with it")
		}
		r.offer(keyOf(500, "small"))
		if !r.has(keyOf(500, "small")) {
			t.Error("not written to again")
		}
	})
}

// A full device: the tier makes do with the regions that it has.
func TestFullDevice(t *testing.T) {
	bubble(t, all, func(r *rig) {
		grown := 0
		r.fail(func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpAllocate {
				if grown++; grown > 3 {
					return vfs.Outcome{Err: unix.ENOSPC}
				}
			}
			return vfs.Outcome{}
		})
		ks := keys(1, 300)
		r.offer(ks...)
		if s := r.Stats(); !s.Up || s.Objects < 10 || s.Objects > 3*regionBytes/unit || r.told(Failed) > 0 {
			t.Errorf("stats %+v", s)
		}
		if r.count(ks[len(ks)-10:]) != 10 {
			t.Error("the newest are not there")
		}
		r.fail(nil)
		time.Sleep(2 * growPatience)
		r.offer(keys(1000, 1300)...)
		if s := r.Stats(); s.FileBytes < 11*regionBytes {
			t.Errorf("did not grow again: %+v", s)
		}
	})
}

// Nothing of a file by a later version is touched.
func TestLaterVersionIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, all)
		b := header{regionBytes, 1}.encode()
		b[8] = version + 1
		le.PutUint32(b[headerBytes-4:], checksum(b[:headerBytes-4]))
		if err := vfs.WriteFile(r.mem, "c/"+fileName, b); err != nil {
			t.Fatal(err)
		}
		r.open(r.mem)
		r.offer(keys(1, 10)...)
		if r.Stats().Up || r.told(Failed) != 1 {
			t.Errorf("events %+v", r.events)
		}
		r.close()
		if now, _ := vfs.ReadFile(r.mem, "c/"+fileName, 1<<20); string(now) != string(b) {
			t.Error("the file was changed")
		}
	})
}

func TestAnotherSize(t *testing.T) {
	bubble(t, all, func(r *rig) {
		ks := keys(1, 100)
		r.offer(ks...)
		before := r.count(ks)
		for _, regions := range []int64{20, 9, 12} {
			r.close()
			r.o.Size = headerBytes + regions*regionBytes
			r.open(r.mem)
			n := r.count(ks)
			if regions == 20 && n != before || regions != 20 && (n == 0 || n >= before) {
				t.Errorf("%d of %d with %d regions", n, before, regions)
			}
			if s, _ := r.mem.Stat("c/" + fileName); s.Size > r.o.Size {
				t.Errorf("%d bytes of %d", s.Size, r.o.Size)
			}
		}
		r.offer(keys(1000, 1300)...)
		if r.count(keys(1290, 1300)) != 20 {
			t.Error("does not go on")
		}
	})
}

// Another process has the file: the tier stays away until it is gone.
func TestFileInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, all)
		f, err := r.mem.Create("c/" + fileName)
		if err != nil {
			t.Fatal(err)
		}
		r.open(r.mem)
		if r.Stats().Up {
			t.Error("two have the file")
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if !r.Stats().Up {
			t.Errorf("events %+v", r.events)
		}
		r.close()
	})
}

// A purge whose record could not be written holds when the device is back: it was lost
// with the batch that failed.
func TestPurgeThatCouldNotBeNoted(t *testing.T) {
	bubble(t, all, func(r *rig) {
		k := keyOf(1, "small")
		r.offer(k, keyOf(2, "small"))
		r.fail(func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpWrite {
				return vfs.Outcome{Err: unix.EIO}
			}
			return vfs.Outcome{}
		})
		r.Purge(1)
		synctest.Wait()
		r.fail(nil)
		time.Sleep(2 * time.Minute)
		if !r.Stats().Up || r.has(k) || !r.has(keyOf(2, "small")) {
			t.Errorf("purged, and back: %v; stats %+v", r.has(k), r.Stats())
		}
	})
}

// A purge of what a failed read took out of the index is noted all the same: a restart
// would find the record.
func TestPurgeOfWhatCouldNotBeRead(t *testing.T) {
	bubble(t, all, func(r *rig) {
		k := keyOf(1, "small")
		r.offer(k)
		r.fail(func(vfs.Op) vfs.Outcome { return vfs.Outcome{Err: unix.EIO} })
		if r.has(k) {
			t.Error("read from a dead device")
		}
		r.fail(nil)
		r.Purge(1)
		synctest.Wait()
		mem := r.mem.Kill()
		r.close()
		r.open(mem)
		if r.has(k) {
			t.Error("purged, and back after a restart")
		}
	})
}

// However much is purged while the device writes nothing, what is remembered of it is
// bounded.
func TestPurgesOfADeviceThatHangs(t *testing.T) {
	bubble(t, all, func(r *rig) {
		r.offer(keyOf(1, "small"))
		hang := make(chan struct{})
		r.fail(func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpWrite {
				<-hang
				return vfs.Outcome{Err: unix.EIO}
			}
			return vfs.Outcome{}
		})
		r.Purge(1)
		synctest.Wait()                // the writer hangs
		r.dev.Load().index.many = true // and for all that is known any blob may be hidden on the device
		for blob := range id.ID(maxMissed + maxMissed/2) {
			r.Purge(2 + blob)
		}
		r.Tier.mu.Lock()
		if n := len(r.purges) + len(r.noting) + len(r.missed); n > maxMissed+maxPurges {
			t.Errorf("%d purges are remembered", n)
		}
		r.Tier.mu.Unlock()
		r.fail(nil)
		close(hang)
		synctest.Wait()
		r.Purge(1)
		r.Tier.mu.Lock()
		if n := len(r.missed); n > maxMissed+maxPurges || !r.lost {
			t.Errorf("%d purges are remembered for when it is back; lost: %v", n, r.lost)
		}
		r.Tier.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if st := r.Stats(); !st.Up || st.Objects != 0 {
			t.Errorf("what it held is believed: %+v", st)
		}
	})
}
