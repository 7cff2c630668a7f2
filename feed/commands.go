package feed

import (
	"fmt"
	"reflect"
)

// commandKinds lists every kind of command (docs/feed-format.md, section 5).
// Numbers are never reused.
var commandKinds = []struct {
	kind uint64
	make func() command
}{
	{1, func() command { return new(cmdCreateAccount) }},
	{2, func() command { return new(cmdCreateSession) }},
	{3, func() command { return new(cmdDeleteSession) }},
	{4, func() command { return new(cmdDeleteSessions) }},
	{5, func() command { return new(cmdUpdateProfile) }},
	{10, func() command { return new(cmdFollow) }},
	{11, func() command { return new(cmdUnfollow) }},
	{12, func() command { return new(cmdAcceptRequest) }},
	{13, func() command { return new(cmdDeclineRequest) }},
	{14, func() command { return new(cmdBlock) }},
	{15, func() command { return new(cmdUnblock) }},
	{16, func() command { return new(cmdMute) }},
	{17, func() command { return new(cmdUnmute) }},
	{20, func() command { return new(cmdBeginUpload) }},
	{21, func() command { return new(cmdIntend) }},
	{22, func() command { return new(cmdStored) }},
	{23, func() command { return new(cmdFinalize) }},
	{24, func() command { return new(cmdReady) }},
	{25, func() command { return new(cmdFailed) }},
	{26, func() command { return new(cmdUpdatePhoto) }},
	{27, func() command { return new(cmdDeletePhoto) }},
	{28, func() command { return new(cmdRestorePhoto) }},
	{30, func() command { return new(cmdLike) }},
	{31, func() command { return new(cmdUnlike) }},
	{32, func() command { return new(cmdComment) }},
	{33, func() command { return new(cmdDeleteComment) }},
	{40, func() command { return new(cmdEffectDone) }},
	{41, func() command { return new(cmdEffectFailed) }},
	{42, func() command { return new(cmdEffectUnpark) }},
	{50, func() command { return new(cmdSweep) }},
	{51, func() command { return new(cmdTrimEvents) }},
	{52, func() command { return new(cmdTrimPurges) }},
	{53, func() command { return new(cmdWatermark) }},
	{60, func() command { return new(cmdSuspend) }},
	{61, func() command { return new(cmdDeleteAccount) }},
	{62, func() command { return new(cmdSetPassword) }},
	{63, func() command { return new(cmdCreateKey) }},
	{64, func() command { return new(cmdDeleteKey) }},
	{65, func() command { return new(cmdSeen) }},
	{66, func() command { return new(cmdLikeComment) }},
	{67, func() command { return new(cmdUnlikeComment) }},
	{68, func() command { return new(cmdSetAvatar) }},
	{69, func() command { return new(cmdAdjust) }},
	{85, func() command { return new(cmdTell) }},
	{86, func() command { return new(cmdListen) }},
	{87, func() command { return new(cmdNotificationsSeen) }},
	{88, func() command { return new(cmdNotificationsWanted) }},
	{95, func() command { return new(cmdListChanges) }},
}

var makeCommand, commandKind = commandTables()

func commandTables() (map[uint64]func() command, map[reflect.Type]uint64) {
	byKind := make(map[uint64]func() command, len(commandKinds))
	byType := make(map[reflect.Type]uint64, len(commandKinds))
	for _, k := range commandKinds {
		byKind[k.kind], byType[reflect.TypeOf(k.make())] = k.make, k.kind
	}
	if len(byKind) != len(commandKinds) || len(byType) != len(commandKinds) {
		panic("feed: two commands share a kind")
	}
	return byKind, byType
}

// newCommand returns an empty command of a kind; nil when the kind is unknown.
func newCommand(kind uint64) command {
	if f := makeCommand[kind]; f != nil {
		return f()
	}
	return nil
}

func kindOf(cmd command) uint64 {
	kind, ok := commandKind[reflect.TypeOf(cmd)]
	if !ok {
		panic(fmt.Sprintf("feed: %T is not a registered command", cmd))
	}
	return kind
}
