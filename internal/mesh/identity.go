package mesh

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/mesh/certs"
	"hayloft/internal/vfs"
)

// Files of a directory of certificates. A client has client.pem and client.key in
// place of the node's.
const (
	CAFile = "ca.pem" // the CAs that count: more than one while one takes the place of another
)

// CertFile and KeyFile are the names of the files of a role.
func CertFile(r certs.Role) string { return r.String() + ".pem" }

// KeyFile is beside CertFile. It may hold several keys: that of the certificate counts.
func KeyFile(r certs.Role) string { return r.String() + ".key" }

const (
	maxCertFile = 1 << 20
	// expiringWithin is how long before its end a certificate is complained about.
	expiringWithin = 14 * 24 * time.Hour
	day            = 24 * time.Hour
)

// Peer is who is at the other end of a connection, verified.
type Peer = certs.Subject

// IdentityOptions say where the certificates are.
type IdentityOptions struct {
	FS     vfs.FS
	Dir    string
	Role   certs.Role // 0: a node
	Clock  clock.Clock
	Events func(Event) // or nil
}

// Identity is who this process is: certificates in a directory, which may be
// replaced while it runs.
type Identity struct {
	o   IdentityOptions
	use atomic.Pointer[credentials]

	mu       sync.Mutex // guards what follows
	files    [3][]byte  // as they were read last, usable or not
	warnedAt time.Time  // of the end that is near
	told     string     // why they could not be read, when that was told
}

// credentials are one state of the files. They are not changed.
type credentials struct {
	self  Peer
	cert  tls.Certificate
	leaf  *x509.Certificate
	roots *x509.CertPool
}

// OpenIdentity reads the certificates. They must be usable now.
func OpenIdentity(o IdentityOptions) (*Identity, error) {
	if o.Role == 0 {
		o.Role = certs.Node
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	i := &Identity{o: o}
	files, err := i.read()
	if err != nil {
		return nil, err
	}
	c, err := i.parse(files)
	if err != nil {
		return nil, err
	}
	i.use.Store(c)
	i.files = files
	i.warn(c)
	return i, nil
}

// Self is who this process is. It does not change.
func (i *Identity) Self() Peer { return i.use.Load().self }

// Until is when the certificate in use ends.
func (i *Identity) Until() time.Time { return i.use.Load().leaf.NotAfter }

// Check looks at the files again and reports whether others are in use now. What
// can't be used, or names somebody else, is told and left alone.
func (i *Identity) Check() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	files, err := i.read()
	if err != nil {
		if i.told != err.Error() {
			i.told = err.Error()
			i.o.Events(Event{Kind: EventBadFiles, Err: err})
		}
		i.warn(i.use.Load())
		return false
	}
	i.told = ""
	if same(files, i.files) {
		i.warn(i.use.Load())
		return false
	}
	i.files = files
	c, err := i.parse(files)
	if err == nil && c.self != i.Self() {
		err = fmt.Errorf("%s: it is of %s now, and this is %s", i.name(CertFile(i.o.Role)), c.self, i.Self())
	}
	if err != nil {
		i.o.Events(Event{Kind: EventBadFiles, Err: err})
		i.warn(i.use.Load())
		return false
	}
	i.use.Store(c)
	i.o.Events(Event{Kind: EventIdentity, Peer: c.self, Until: c.leaf.NotAfter})
	i.warn(c)
	return true
}

// warn tells once a day that the end is near. The caller has mu, or is alone.
func (i *Identity) warn(c *credentials) {
	now := i.o.Clock.Now()
	if c.leaf.NotAfter.Sub(now) > expiringWithin || !i.warnedAt.IsZero() && now.Sub(i.warnedAt).Abs() < day {
		return
	}
	i.warnedAt = now
	i.o.Events(Event{Kind: EventExpiring, Peer: c.self, Until: c.leaf.NotAfter})
}

func same(a, b [3][]byte) bool {
	return bytes.Equal(a[0], b[0]) && bytes.Equal(a[1], b[1]) && bytes.Equal(a[2], b[2])
}

func (i *Identity) name(file string) string { return filepath.Join(i.o.Dir, file) }

// read returns ca.pem, the certificate and the key.
func (i *Identity) read() (files [3][]byte, err error) {
	for n, name := range []string{CAFile, CertFile(i.o.Role), KeyFile(i.o.Role)} {
		if files[n], err = vfs.ReadFile(i.o.FS, i.name(name), maxCertFile); err != nil {
			return files, fmt.Errorf("certificates: %w", err)
		}
	}
	return files, nil
}

// parse makes sense of the files, and holds the certificate to what others will
// hold it to.
func (i *Identity) parse(files [3][]byte) (*credentials, error) {
	cas, err := certs.ParseCerts(files[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", i.name(CAFile), err)
	}
	name := i.name(CertFile(i.o.Role))
	chain, err := certs.ParseCerts(files[1])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	keys, err := certs.ParseKeys(files[2])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", i.name(KeyFile(i.o.Role)), err)
	}
	c := &credentials{leaf: chain[0], roots: x509.NewCertPool()}
	for _, ca := range cas {
		if !ca.IsCA {
			return nil, fmt.Errorf("%s: the certificate of %s is not that of a CA", i.name(CAFile), ca.Subject)
		}
		c.roots.AddCert(ca)
	}
	key := certs.KeyOf(c.leaf, keys)
	if key == nil {
		return nil, fmt.Errorf("%s is not the key of %s", i.name(KeyFile(i.o.Role)), name)
	}
	if c.self, err = certs.Verify(chain, c.roots, i.o.Clock.Now(), i.o.Role == certs.Node); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if c.self.Role != i.o.Role {
		return nil, fmt.Errorf("%s is that of a %s, want a %s", name, c.self.Role, i.o.Role)
	}
	c.cert = tls.Certificate{Certificate: [][]byte{c.leaf.Raw}, PrivateKey: key, Leaf: c.leaf}
	return c, nil
}

// errNoCert is what a server says of a peer without a certificate.
var errNoCert = errors.New("no certificate was shown")

// serverTLS is for one handshake with somebody who has connected. admit is given
// who it is and what protocol it wants.
func (c *credentials) serverTLS(clk clock.Clock, protos []string, admit func(Peer, string) error) *tls.Config {
	t := c.base(clk)
	t.ClientAuth, t.ClientCAs = tls.RequireAnyClientCert, c.roots
	t.NextProtos = protos
	t.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return errNoCert
		}
		p, err := certs.Verify(cs.PeerCertificates, c.roots, clk.Now(), false)
		if err != nil {
			return err
		}
		return admit(p, cs.NegotiatedProtocol)
	}
	return t
}

// clientTLS is for one handshake with a node that was dialed.
func (c *credentials) clientTLS(clk clock.Clock, proto string, admit func(Peer) error) *tls.Config {
	t := c.base(clk)
	// Verified by VerifyConnection: who a node is, its name says, not its host.
	t.InsecureSkipVerify = true
	t.NextProtos = []string{proto}
	t.VerifyConnection = func(cs tls.ConnectionState) error {
		p, err := certs.Verify(cs.PeerCertificates, c.roots, clk.Now(), true)
		switch {
		case err != nil:
		case p.Role != certs.Node:
			err = fmt.Errorf("%s answers, who is no node", p)
		case cs.NegotiatedProtocol != proto:
			err = fmt.Errorf("the node speaks %q, want %q", cs.NegotiatedProtocol, proto)
		default:
			err = admit(p)
		}
		if err != nil {
			return &mistaken{err}
		}
		return nil
	}
	return t
}

func (c *credentials) base(clk clock.Clock) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{c.cert}, Time: clk.Now,
		SessionTicketsDisabled:      true, // each connection is verified whole
		DynamicRecordSizingDisabled: true, // nobody here renders a page by halves
	}
}
