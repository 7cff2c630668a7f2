package ec

import (
	"context"
	"errors"
	"fmt"

	"hayloft/bench"
	"hayloft/bench/contest"
	"hayloft/bench/raw"
	"hayloft/internal/vfs"
	"hayloft/volume/coding"
)

// suffix is how names of figures of one policy end.
func suffix(p coding.Policy) string { return fmt.Sprintf("_%d_%d", p.Data, p.Parity) }

// encodes measures the whole coding of the volume, reading back included, beside
// a raw pass that makes the same calls.
func (b *run) encodes(ctx context.Context, p coding.Policy) error {
	b.Progress("coding " + p.String())
	seen := raw.NewRecorder()
	if err := b.encodeOnce(ctx, p, seen); err != nil {
		return err
	}
	plan, err := newRawPass(seen.Ops, b.src.File)
	if err != nil {
		return err
	}
	at := suffix(p)
	engine := &contest.Arm{Name: "encode" + at + "_engine", Clients: 1, Start: b.encodeJob(p)}
	device := &contest.Arm{Name: "encode" + at + "_raw", Clients: 1, Start: b.passJob(plan, p, false)}
	huge := &contest.Arm{Name: "encode" + at + "_raw_huge", Clients: 1, Start: b.passJob(plan, p, true)}
	if err := b.contest(ctx, b.moves(), engine, device, huge); err != nil {
		return err
	}
	for _, a := range []*contest.Arm{engine, device, huge} {
		b.add(a.Results("B/s", 1)...)
	}
	b.report.Ratios["encode_throughput"+at] = contest.Ratio(engine.Rates, device.Rates)
	b.report.Ratios["encode_over_huge"+at] = contest.Ratio(engine.Rates, huge.Rates)
	b.report.Settings["raw side of encode"+at] = plan.String()
	if !plan.direct {
		b.report.Settings["raw side"] = "NOT DIRECT: this file system does not know O_DIRECT, so the ratios mean nothing"
	}
	return nil
}

// encodeOnce codes the volume and throws the shards away.
func (b *run) encodeOnce(ctx context.Context, p coding.Policy, fsys vfs.FS) error {
	s, err := b.place(b.src, p, "coding")
	if err != nil {
		return err
	}
	_, err = coding.Encode(ctx, s.c.Plan, b.src.file(fsys), s.homes(fsys), coding.Options{})
	return errors.Join(err, s.remove())
}

// encodeJob is one coding. Its weight is the bytes of the source.
func (b *run) encodeJob(p coding.Policy) func(context.Context) (contest.Job, error) {
	return func(context.Context) (contest.Job, error) {
		s, err := b.place(b.src, p, "coding")
		if err != nil {
			return contest.Job{}, err
		}
		return contest.Job{Limit: 1, Do: func(ctx context.Context, _, _ int) (float64, error) {
			_, err := coding.Encode(ctx, s.c.Plan, b.src.file(vfs.OS{}), s.homes(vfs.OS{}), coding.Options{})
			return float64(b.src.rec.End), err
		}, Stop: s.remove}, raw.Evict(b.src.Dir)
	}
}

// passJob is one raw pass.
func (b *run) passJob(plan *rawPass, p coding.Policy, huge bool) func(context.Context) (contest.Job, error) {
	return func(context.Context) (contest.Job, error) {
		s, err := b.place(b.src, p, "raw")
		if err != nil {
			return contest.Job{}, err
		}
		memory, free, err := plan.memory(huge)
		if err != nil {
			return contest.Job{}, errors.Join(err, s.remove())
		}
		return contest.Job{Limit: 1, Do: func(ctx context.Context, _, _ int) (float64, error) {
			return float64(b.src.rec.End), plan.run(ctx, b.src.File, s.dir, memory)
		}, Stop: func() error { free(); return s.remove() }}, raw.Evict(b.src.Dir)
	}
}

// worse says how the figures that have a plain name are compared.
var worse = map[string]func(a, b float64) bool{
	"encode_throughput": less, "coded_read_latency": more, "coded_read_200k_latency": more, "degraded_read_latency": more,
	"read_p99_during_rebuild": more, "stored_over_policy": more,
}

func less(a, b float64) bool { return a < b }
func more(a, b float64) bool { return a > b }

// worst gives the worst policy's figures their plain names.
func (b *run) worst() {
	for name, isWorse := range worse {
		var of coding.Policy
		for _, p := range b.Policies {
			if of.Data == 0 || isWorse(b.report.Ratios[name+suffix(p)], b.report.Ratios[name+suffix(of)]) {
				of = p
			}
		}
		b.report.Ratios[name] = b.report.Ratios[name+suffix(of)]
		if name == "stored_over_policy" {
			b.report.Ratios["stored_over_live"] = b.report.Ratios["stored_over_live"+suffix(of)]
		}
	}
	for _, name := range []string{"scrub_found", "scrub_repaired"} {
		least := bench.Result{}
		for _, r := range b.report.Results {
			for _, p := range b.Policies {
				if r.Name == name+suffix(p) && (least.Name == "" || r.Value < least.Value) {
					least = r
				}
			}
		}
		least.Name, least.Errors = name, 0 // counted once
		b.add(least)
	}
}
