package torture

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
)

// keysPerRound is the room for keys in one life of the writer.
const keysPerRound = 1 << 24

// classOf gives volumes of both classes.
func classOf(v volume.ID) volume.Class {
	if v%2 == 0 {
		return volume.ClassOriginals
	}
	return volume.ClassVariants
}

// group makes the needles of one key: a master, or one to four variants.
func group(seed uint64, v volume.ID, key id.ID) []volume.Needle {
	rng := rand.New(rand.NewPCG(seed, uint64(key)))
	cookie := id.Cookie(rng.Uint64() | 1)
	if classOf(v) == volume.ClassOriginals {
		at := id.Epoch.Add(time.Duration(rng.Int64N(1e9)) * time.Millisecond)
		master := &volume.MasterInfo{Photo: key + 1, Owner: id.ID(rng.Uint64() | 1), ContentType: "image/jpeg", Time: at}
		return []volume.Needle{{Key: key, Cookie: cookie, Master: master, Data: bytesOf(rng, 256<<10)}}
	}
	out := make([]volume.Needle, 1+rng.IntN(4))
	for i := range out {
		out[i] = volume.Needle{Key: key, Alt: uint8(i + 1), Cookie: cookie, Data: bytesOf(rng, 48<<10)}
	}
	return out
}

// bytesOf draws a length and that many bytes. Most images are smaller than
// usual, some are empty, some so large that they have a table of block CRCs.
func bytesOf(rng *rand.Rand, usual int) []byte {
	n := 0
	switch k := rng.IntN(40); {
	case k == 0:
	case k == 1:
		n = 128<<10 + rng.IntN(1<<20)
	case k < 16:
		n = 1 + rng.IntN(4096)
	default:
		n = 1 + rng.IntN(usual)
	}
	b := make([]byte, (n+7)&^7)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rng.Uint64())
	}
	return b[:n]
}
