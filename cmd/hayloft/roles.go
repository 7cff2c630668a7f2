package main

import (
	"fmt"
	"slices"
	"strings"

	"hayloft/directory"
)

// role is a part that a node plays. Every node has a copy of the directory, whatever
// its roles: it says where photos are.
type role string

const (
	roleDirectory role = "directory" // may vote on what the directory says
	roleVolume    role = "volume"    // keeps photos on its disks
	roleCache     role = "cache"     // serves photos to the public
	roleFeed      role = "feed"      // has a replica of the feed
	roleAPI       role = "api"       // serves the API and the web page
	roleWorker    role = "worker"    // makes variants, reclaims space
)

// everyRole is what "all" means.
var everyRole = []role{roleDirectory, roleVolume, roleCache, roleFeed, roleAPI, roleWorker}

// roleBits are the directory's names for them.
var roleBits = map[role]directory.Roles{
	roleDirectory: directory.RoleDirectory, roleVolume: directory.RoleVolume, roleCache: directory.RoleCache,
	roleFeed: directory.RoleFeed, roleAPI: directory.RoleAPI, roleWorker: directory.RoleWorker,
}

// rolesValue is a flag that holds roles, or all.
type rolesValue struct{ r *[]role }

func (v rolesValue) Type() string { return "roles" }

func (v rolesValue) String() string {
	if v.r == nil || len(*v.r) == len(everyRole) {
		return "all"
	}
	var names []string
	for _, r := range *v.r {
		names = append(names, string(r))
	}
	return strings.Join(names, ",")
}

// Set parses all, or roles with commas between, in the order of everyRole.
func (v rolesValue) Set(s string) error {
	if s == "all" {
		*v.r = slices.Clone(everyRole)
		return nil
	}
	given := map[role]bool{}
	for name := range strings.SplitSeq(s, ",") {
		r := role(strings.TrimSpace(name))
		if !slices.Contains(everyRole, r) {
			return fmt.Errorf("%q is no role: all, or some of %s", name, joinRoles(everyRole))
		}
		given[r] = true
	}
	*v.r = nil
	for _, r := range everyRole {
		if given[r] {
			*v.r = append(*v.r, r)
		}
	}
	return nil
}

func joinRoles(rs []role) string {
	return rolesText(rs, ",")
}

func rolesText(rs []role, sep string) string {
	names := make([]string, len(rs))
	for i, r := range rs {
		names[i] = string(r)
	}
	return strings.Join(names, sep)
}

// plays reports whether this node has a role.
func (n *node) plays(r role) bool { return slices.Contains(n.s.roles, r) }

// bits are this node's roles as its row has them.
func (s *settings) bits() (b directory.Roles) {
	for _, r := range s.roles {
		b |= roleBits[r]
	}
	return b
}
