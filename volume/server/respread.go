package server

// crowded finds a shard that is to move, because its disk has two more of the volume
// than another one: it was made again there when there was no other place. ok is
// false while anything of the volume is lost, and when no move makes it safer.
func (c *coder) crowded(cv *codedVolume) (l lostShard, ok bool) {
	held, last := make(map[uint32]int), make(map[uint32]int)
	most := uint32(0)
	for i, p := range cv.places() {
		d := c.s.diskByNumber(p.home)
		if p.file == nil || len(p.damage) > 0 || d == nil || d.usable() != nil {
			return l, false
		}
		held[p.home]++
		last[p.home] = i
		if held[p.home] > held[most] {
			most = p.home
		}
	}
	to, err := spread(c.candidates(held), 1, cv.c.Policy, cv.c.FileBytes())
	if err != nil || held[to[0]]+2 > held[most] {
		return l, false
	}
	return lostShard{shard: last[most], on: c.s.diskByNumber(to[0]), moves: true}, true
}
