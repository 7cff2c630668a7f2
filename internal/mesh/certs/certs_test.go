package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "node-1": true, "0": true, "-": true, strings.Repeat("x", 32): true, "ABCDEFGHIJKLMN27": true,
		"": false, strings.Repeat("x", 33): false, "Node": false, "a.b": false, "a/b": false, "a b": false, "ä": false, "a\n": false,
		"ABCDEFGHIJKLMN2": false, "ABCDEFGHIJKLMN21": false, "abcdefghijklmnoP": false,
	} {
		if got := ValidName(name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
}

// Whatever else a certificate has in it, only the one URI counts, and only exactly.
func TestSubjectOf(t *testing.T) {
	for uris, want := range map[string]Subject{
		"hayloft://node/a":                    {Node, "a"},
		"hayloft://client/ops-1":              {Client, "ops-1"},
		"":                                    {},
		"hayloft://node/a hayloft://client/a": {},
		"https://node/a":                      {},
		"hayloft://admin/a":                   {},
		"hayloft://node/":                     {},
		"hayloft://node/a/b":                  {},
		"hayloft://node/a?x":                  {},
		"hayloft://node//a":                   {},
		"hayloft://node:1/a":                  {},
		"hayloft://u@node/a":                  {},
		"hayloft://node/%61":                  {},
		"hayloft://node/A":                    {},
	} {
		c := &x509.Certificate{}
		for _, s := range strings.Fields(uris) {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
		got, err := SubjectOf(c)
		if want == (Subject{}) && !errors.Is(err, ErrSubject) || want != (Subject{}) && (err != nil || got != want) {
			t.Errorf("%q: %v, %v", uris, got, err)
		}
	}
}

func TestAuthorityComesBackFromPEM(t *testing.T) {
	now := time.Now()
	ca, err := NewAuthority(now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ca.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseAuthority(ca.CertPEM(), key)
	if err != nil || !bytes.Equal(again.Cert.Raw, ca.Cert.Raw) {
		t.Fatalf("%v", err)
	}
	other, err := NewAuthority(now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseAuthority(other.CertPEM(), key); err == nil {
		t.Error("another CA's key was taken")
	}
	mine, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	c, err := again.Issue(Subject{Node, "a"}, []string{"h", "10.0.0.1"}, mine.Public(), now, 100*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if c.NotAfter.After(ca.Cert.NotAfter) {
		t.Errorf("it outlives its CA: %v", c.NotAfter)
	}
	if _, err := again.Issue(Subject{Node, "No"}, nil, mine.Public(), now, time.Hour); err == nil {
		t.Error("a bad name was certified")
	}
	if KeyOf(c, []*ecdsa.PrivateKey{mine}) != mine {
		t.Error("the key was not found")
	}
}
