package plan

import (
	"math/rand/v2"
	"testing"

	"hayloft/directory"
)

// BenchmarkPlan is a plan for 100,000 volumes with two replicas on 300 disks of 30
// nodes: when all is well, and when a node is lost.
func BenchmarkPlan(b *testing.B) {
	nodes, _ := grid(make([]Node, 30), 0)
	var disks []Disk
	for i := range 300 {
		disks = append(disks, Disk{ID: directory.DiskID(i + 1), Node: directory.NodeID(i%30 + 1), Up: true, Free: 1e12, Capacity: 2e12})
	}
	random, c := rand.New(rand.NewPCG(1, 1)), New(nodes, disks)
	var volumes []Volume
	for i := range 100_000 {
		d, err := c.Choose(Request{Want: 2}, random)
		if err != nil {
			b.Fatal(err)
		}
		volumes = append(volumes, vol(i+1, 2, d, d))
	}
	for i := range disks {
		if disks[i].Node == 3 {
			disks[i].Up, disks[i].Away = false, 2*testDelay
		}
	}
	for name, c := range map[string]*Cluster{"well": c, "lost": New(nodes, disks)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				p := c.Plan(volumes, Options{RepairDelay: testDelay}, random)
				b.ReportMetric(float64(len(p.Steps)), "steps")
			}
		})
	}
	b.Run("survives", func(b *testing.B) {
		for b.Loop() {
			c.Survives(volumes)
		}
	})
}
