package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"
)

// backdated is how long before it was made a certificate is valid.
const backdated = 24 * time.Hour

const (
	certBlock = "CERTIFICATE"
	keyBlock  = "PRIVATE KEY"
)

func (s Subject) uri() *url.URL {
	return &url.URL{Scheme: scheme, Host: s.Role.String(), Path: "/" + s.Name}
}

// Authority is a CA: its certificate and its key.
type Authority struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes a CA that is valid for life from now on.
func NewAuthority(now time.Time, life time.Duration) (*Authority, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{
		SerialNumber: serial,
		// Two CAs of one cluster are told apart by people too.
		Subject:   pkix.Name{CommonName: fmt.Sprintf("Hayloft CA %08x", serial.Uint64()>>32)},
		NotBefore: now.Add(-backdated), NotAfter: now.Add(life),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	a := &Authority{key: key}
	a.Cert, err = sign(c, c, key.Public(), key)
	return a, err
}

// ParseAuthority reads a CA from PEM. Of several certificates the one of the key
// counts.
func ParseAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	list, err := ParseCerts(certPEM)
	if err != nil {
		return nil, err
	}
	keys, err := ParseKeys(keyPEM)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		if k := KeyOf(c, keys); k != nil && c.IsCA {
			return &Authority{Cert: c, key: k}, nil
		}
	}
	return nil, errors.New("the CA's key is not the one of its certificate")
}

// CertPEM is the CA's certificate.
func (a *Authority) CertPEM() []byte { return CertPEM(a.Cert) }

// KeyPEM is the CA's key: whoever has it can be any node.
func (a *Authority) KeyPEM() ([]byte, error) { return KeyPEM(a.key) }

// Issue makes a certificate for the subject and a key, valid for life from now on
// but not beyond the CA's own end. Hosts are names and IP addresses.
func (a *Authority) Issue(s Subject, hosts []string, pub crypto.PublicKey, now time.Time, life time.Duration) (*x509.Certificate, error) {
	if !ValidName(s.Name) {
		return nil, fmt.Errorf("%q is no name for a %s: 1 to %d of a-z, 0-9 and -", s.Name, s.Role, maxName)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: s.Name, OrganizationalUnit: []string{s.Role.String()}},
		NotBefore:    now.Add(-backdated), NotAfter: now.Add(life),
		URIs: []*url.URL{s.uri()}, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	switch s.Role {
	case Node:
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	case Client:
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	default:
		return nil, errors.New("a certificate is for a node or a client")
	}
	if c.NotAfter.After(a.Cert.NotAfter) {
		c.NotAfter = a.Cert.NotAfter
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, h)
		}
	}
	return sign(c, a.Cert, pub, a.key)
}

func sign(c, parent *x509.Certificate, pub crypto.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func newSerial() (*big.Int, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	b[0] &= 0x7f // positive, and 16 bytes at most
	return new(big.Int).SetBytes(b[:]), nil
}

// NewKey draws a key.
func NewKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// KeyPEM writes keys.
func KeyPEM(keys ...*ecdsa.PrivateKey) ([]byte, error) {
	var out []byte
	for _, k := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			return nil, err
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der})...)
	}
	return out, nil
}

// CertPEM writes certificates.
func CertPEM(list ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range list {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: c.Raw})...)
	}
	return out
}

// ParseCerts reads certificates, at least one.
func ParseCerts(text []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	err := blocks(text, certBlock, func(der []byte) error {
		c, err := x509.ParseCertificate(der)
		list = append(list, c)
		return err
	})
	if err == nil && len(list) == 0 {
		err = errors.New("there is no certificate in it")
	}
	return list, err
}

// ParseKeys reads keys, at least one.
func ParseKeys(text []byte) ([]*ecdsa.PrivateKey, error) {
	var keys []*ecdsa.PrivateKey
	err := blocks(text, keyBlock, func(der []byte) error {
		k, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			return err
		}
		ec, ok := k.(*ecdsa.PrivateKey)
		if !ok {
			return fmt.Errorf("a key is a %T: keys are ECDSA on P-256", k)
		}
		keys = append(keys, ec)
		return nil
	})
	if err == nil && len(keys) == 0 {
		err = errors.New("there is no private key in it")
	}
	return keys, err
}

// blocks calls fn for each block of a kind. Anything else among them is a fault:
// a file that was put together wrongly must not work by half.
func blocks(text []byte, kind string, fn func(der []byte) error) error {
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			return nil
		}
		if b.Type != kind {
			return fmt.Errorf("a block of kind %q in it, want only %q", b.Type, kind)
		}
		if err := fn(b.Bytes); err != nil {
			return err
		}
	}
}

// KeyOf returns the key of a certificate among some, nil when it is not there. A
// key file may hold several: while a key is replaced, the old one and the new.
func KeyOf(c *x509.Certificate, keys []*ecdsa.PrivateKey) *ecdsa.PrivateKey {
	pub, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil
	}
	for _, k := range keys {
		if k.PublicKey.Equal(pub) {
			return k
		}
	}
	return nil
}

// Verify returns who the first certificate of a chain speaks for, when it was
// issued by one of the roots, is valid now and may be shown from that end of a
// connection (serving: by the one that was dialed).
func Verify(chain []*x509.Certificate, roots *x509.CertPool, now time.Time, serving bool) (Subject, error) {
	if len(chain) == 0 {
		return Subject{}, errors.New("no certificate")
	}
	usage := x509.ExtKeyUsageClientAuth
	if serving {
		usage = x509.ExtKeyUsageServerAuth
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	}); err != nil {
		return Subject{}, err
	}
	return SubjectOf(chain[0])
}
