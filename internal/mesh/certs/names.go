package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// Role is what a certificate lets its holder be.
type Role uint8

// The roles. The zero Role is nobody.
const (
	Node   Role = iota + 1 // a member of the cluster, trusted by the others
	Client                 // a program that may ask, and is asked nothing
)

func (r Role) String() string {
	switch r {
	case Node:
		return "node"
	case Client:
		return "client"
	default:
		return "nobody"
	}
}

// Subject is who a certificate speaks for.
type Subject struct {
	Role Role
	Name string
}

func (s Subject) String() string { return s.Role.String() + " " + s.Name }

const (
	maxName   = 32
	drawnName = 16 // characters of a name that was drawn at random
	scheme    = "hayloft"
)

// ValidName reports whether a node or client may have the name: 1 to 32 of a-z,
// 0-9 and -, or what nodes without a certificate draw, 16 of A-Z and 2-7.
func ValidName(name string) bool {
	only := func(alphabet string) bool { return strings.Trim(name, alphabet) == "" }
	return name != "" && len(name) <= maxName && only("abcdefghijklmnopqrstuvwxyz0123456789-") ||
		len(name) == drawnName && only("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
}

// ErrSubject says that a certificate names nobody of Hayloft's.
var ErrSubject = errors.New("the certificate names no node and no client of Hayloft")

// SubjectOf returns who a certificate speaks for. It does not verify it.
func SubjectOf(c *x509.Certificate) (Subject, error) {
	if len(c.URIs) != 1 {
		return Subject{}, fmt.Errorf("%w: %d URIs in it, want 1", ErrSubject, len(c.URIs))
	}
	u := c.URIs[0]
	s := Subject{Name: strings.TrimPrefix(u.Path, "/")}
	switch u.Host {
	case Node.String():
		s.Role = Node
	case Client.String():
		s.Role = Client
	}
	if s.Role == 0 || !ValidName(s.Name) || u.String() != s.uri().String() {
		return Subject{}, fmt.Errorf("%w: it says %q", ErrSubject, u)
	}
	return s, nil
}
