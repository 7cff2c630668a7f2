package feed

import (
	"encoding/binary"

	"hayloft/internal/id"
)

// The tables of docs/feed-format.md, section 3. Bytes 00-0f are the group's.
const (
	tabMeta         = 0x10
	tabAccount      = 0x11
	tabHandle       = 0x12
	tabSession      = 0x13
	tabUserSession  = 0x14
	tabFollow       = 0x18
	tabFollowedBy   = 0x19
	tabFollowing    = 0x1a
	tabFollowers    = 0x1b
	tabRequest      = 0x1c
	tabRequests     = 0x1d
	tabBlock        = 0x1e
	tabBlocks       = 0x1f
	tabMute         = 0x20
	tabMutes        = 0x21
	tabPhoto        = 0x28
	tabBlob         = 0x29
	tabPosts        = 0x2a
	tabDeleted      = 0x2b
	tabLike         = 0x30
	tabLikes        = 0x31
	tabComment      = 0x32
	tabThread       = 0x33
	tabReplies      = 0x34
	tabEvent        = 0x40
	tabEffect       = 0x41
	tabEffectByTime = 0x42
	tabParked       = 0x43
	tabPurge        = 0x44
	tabChore        = 0x45
	tabDue          = 0x46
	tabIdempotency  = 0x47
	tabWatermark    = 0x48
	tabAsked        = 0x50
	tabBlockedBy    = 0x51
	tabMutedBy      = 0x52
	tabLiked        = 0x53
	tabSaid         = 0x54
	tabOwned        = 0x55
	tabSeen         = 0x56
	tabAPIKey       = 0x57
	tabUserKeys     = 0x58
	tabRetired      = 0x59
	tabReconciled   = 0x5a
	tabChange       = 0x68
	tabChangeOf     = 0x69
	tabChangeMeta   = 0x6a
)

// inverses are the tables with the same edges by their other end, so that all of an
// account's can be found.
var inverses = map[byte]byte{
	tabRequest: tabAsked, tabBlock: tabBlockedBy, tabMute: tabMutedBy, tabLike: tabLiked,
}

// Names in tabMeta.
const (
	metaFormat     = 0x01
	metaPos        = 0x02
	metaEvent      = 0x03
	metaEffect     = 0x04
	metaPurge      = 0x05
	metaFirstEvent = 0x06
	metaFirstPurge = 0x07
	metaChore      = 0x08
	metaSwept      = 0x09
	metaEnd        = 0x0a
)

const formatVersion = 1

// Kinds in tabDue.
const (
	dueIntent      = 1
	duePhoto       = 2
	dueSession     = 3
	dueIdempotency = 4
	dueHandle      = 5
)

func be(dst []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(dst, v) }

func parseBE(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

func metaKey(name byte) []byte { return []byte{tabMeta, name} }

// key1 is a key of a table and one number; key2 of two.
func key1[A ~uint64](table byte, a A) []byte {
	return be(append(make([]byte, 0, 9), table), uint64(a))
}

func key2(table byte, a, b id.ID) []byte {
	k := append(make([]byte, 0, 17), table)
	return be(be(k, uint64(a)), uint64(b))
}

// keyDesc is key2 with b complemented: newest first.
func keyDesc(table byte, a, b id.ID) []byte { return key2(table, a, ^b) }

func handleKey(handle string) []byte { return append([]byte{tabHandle}, handle...) }

func retiredKey(handle string) []byte { return append([]byte{tabRetired}, handle...) }

func sessionKey(hash [32]byte) []byte { return append([]byte{tabSession}, hash[:]...) }

func apiKeyKey(hash [32]byte) []byte { return append([]byte{tabAPIKey}, hash[:]...) }

func effectTimeKey(kind EffectKind, ms, seq uint64) []byte {
	return be(be([]byte{tabEffectByTime, byte(kind)}, ms), seq)
}

func dueKey(ms uint64, kind byte, subject []byte) []byte {
	k := be([]byte{tabDue}, ms)
	return append(append(k, kind), subject...)
}

func idempotencyKey(account id.ID, hash [32]byte) []byte {
	return append(key1(tabIdempotency, account), hash[:]...)
}

// after is the smallest key above every key with prefix k. No table byte is ff
// and no prefix here consists of ff alone.
func after(k []byte) []byte {
	k = append([]byte(nil), k...)
	for i := len(k) - 1; i >= 0; i-- {
		if k[i]++; k[i] != 0 {
			return k[:i+1]
		}
	}
	return nil
}
