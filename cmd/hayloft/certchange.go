package main

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"hayloft/internal/mesh"
	"hayloft/internal/mesh/certs"

	"github.com/spf13/cobra"
)

func newCertRenew() *cobra.Command {
	var caDir string
	var days int
	var newKey bool
	var hosts []string
	cmd := &cobra.Command{
		Use:   "renew DIR --ca DIR",
		Short: "Replace a certificate by one that is valid for longer; a server that runs takes it within a minute",
		Args:  wantArgs(1, 1, "the directory of the certificate"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if caDir == "" {
				return usagef("--ca names the directory of the CA")
			}
			if days < 1 {
				return usagef("--days %d is less than one", days)
			}
			d, err := readCertDir(args[0])
			if err != nil {
				return err
			}
			ca, err := readCA(caDir)
			if err != nil {
				return err
			}
			until, err := d.renew(ca, hosts, newKey, time.Duration(days)*day)
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%s until %s in %s\n", d.who, dateOf(until), d.dir)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&caDir, "ca", "", "directory of the CA")
	cmd.Flags().IntVar(&days, "days", defaultDays, "how long the new certificate is valid")
	cmd.Flags().BoolVar(&newKey, "new-key", false, "draw a new key too; without it the key does not have to be there")
	cmd.Flags().StringSliceVar(&hosts, "host", nil, "other host names and addresses than the old one has")
	return cmd
}

// renew replaces the certificate. At every moment there is a certificate and its key:
// while the key is replaced, its file has both.
func (d certDir) renew(ca *certs.Authority, hosts []string, newKey bool, life time.Duration) (until time.Time, err error) {
	if !slices.ContainsFunc(d.cas, ca.Cert.Equal) {
		return until, fmt.Errorf("%s does not trust that CA: other nodes may not either. First let every node trust it (hayloft cert trust)", filepath.Join(d.dir, mesh.CAFile))
	}
	if len(hosts) == 0 {
		hosts = hostsOf(d.cert)
	}
	pub, keys := d.cert.PublicKey, d.keys
	if newKey {
		key, err := certs.NewKey()
		if err != nil {
			return until, err
		}
		old := certs.KeyOf(d.cert, d.keys)
		if old == nil {
			return until, fmt.Errorf("%s does not have the key of the certificate", d.dir)
		}
		if err := d.writeKeys(key, old); err != nil {
			return until, err
		}
		pub, keys = key.Public(), []*ecdsa.PrivateKey{key}
	}
	c, err := ca.Issue(d.who, hosts, pub, time.Now(), life)
	if err != nil {
		return until, err
	}
	if err := writeSecret(d.dir, mesh.CertFile(d.role), certs.CertPEM(c), certMode); err != nil {
		return until, err
	}
	if newKey {
		err = d.writeKeys(keys...)
	}
	return c.NotAfter, err
}

func (d certDir) writeKeys(keys ...*ecdsa.PrivateKey) error {
	text, err := certs.KeyPEM(keys...)
	if err != nil {
		return err
	}
	return writeSecret(d.dir, mesh.KeyFile(d.role), text, keyMode)
}

func newCertTrust() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:   "trust DIR CA.PEM",
		Short: "Add a CA to those that a node or client trusts, or remove one: to replace a CA",
		Args:  wantArgs(2, 2, "the directory of the certificate and the ca.pem of the CA"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := readCertDir(args[0])
			if err != nil {
				return err
			}
			text, err := os.ReadFile(args[1])
			if err != nil {
				return err
			}
			list, err := certs.ParseCerts(text)
			if err != nil {
				return fmt.Errorf("%s: %w", args[1], err)
			}
			cas, err := d.trust(list, remove)
			if err != nil {
				return err
			}
			if err := writeSecret(d.dir, mesh.CAFile, certs.CertPEM(cas...), certMode); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s trusts %s\n", d.who, orNone(namesOf(cas)))
			return nil
		},
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "trust it no more: what it has issued counts for nothing then")
	return cmd
}

// trust returns the CAs with some more, or without them.
func (d certDir) trust(list []*x509.Certificate, remove bool) ([]*x509.Certificate, error) {
	cas := slices.Clone(d.cas)
	for _, ca := range list {
		at := slices.IndexFunc(cas, ca.Equal)
		switch {
		case !ca.IsCA:
			return nil, fmt.Errorf("the certificate of %s is not that of a CA", ca.Subject.CommonName)
		case remove && at < 0:
			return nil, fmt.Errorf("%s is not trusted in %s", ca.Subject.CommonName, d.dir)
		case remove && d.cert.CheckSignatureFrom(ca) == nil:
			return nil, fmt.Errorf("%s has issued the certificate in %s itself: renew that with another CA first", ca.Subject.CommonName, d.dir)
		case remove:
			cas = slices.Delete(cas, at, at+1)
		case at < 0:
			cas = append(cas, ca)
		}
	}
	return cas, nil
}

func namesOf(cas []*x509.Certificate) (names []string) {
	for _, ca := range cas {
		names = append(names, ca.Subject.CommonName)
	}
	return names
}

// shownCert is what cert show --json prints.
type shownCert struct {
	Role    string    `json:"role"`
	Name    string    `json:"name"`
	Hosts   []string  `json:"hosts"`
	From    time.Time `json:"from"`
	Until   time.Time `json:"until"`
	CA      string    `json:"ca"` // that issued it; empty when it is not trusted here
	Trusted []shownCA `json:"trusted"`
	Key     bool      `json:"key"` // its key is there
	Valid   bool      `json:"valid"`
	Why     string    `json:"why,omitempty"` // it is not
}

type shownCA struct {
	Name  string    `json:"name"`
	Until time.Time `json:"until"`
}

func newCertShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show DIR",
		Short: "Say whose certificate it is, until when it is valid, and which CAs are trusted",
		Args:  wantArgs(1, 1, "the directory of the certificate"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := readCertDir(args[0])
			if err != nil {
				return err
			}
			s := d.show(time.Now())
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(s)
			}
			return s.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as one JSON object")
	return cmd
}

func (d certDir) show(now time.Time) shownCert {
	s := shownCert{
		Role: d.who.Role.String(), Name: d.who.Name, Hosts: hostsOf(d.cert), From: d.cert.NotBefore, Until: d.cert.NotAfter,
		Key: certs.KeyOf(d.cert, d.keys) != nil,
	}
	if ca := d.issuer(); ca != nil {
		s.CA = ca.Subject.CommonName
	}
	roots := x509.NewCertPool()
	for _, ca := range d.cas {
		roots.AddCert(ca)
		s.Trusted = append(s.Trusted, shownCA{ca.Subject.CommonName, ca.NotAfter})
	}
	_, err := certs.Verify([]*x509.Certificate{d.cert}, roots, now, d.role == certs.Node)
	if err == nil && !s.Key {
		err = errors.New("its key is not there")
	}
	if s.Valid = err == nil; err != nil {
		s.Why = err.Error()
	}
	return s
}

func (s shownCert) print(w io.Writer) error {
	fmt.Fprintf(w, "%s %s, until %s\n", s.Role, s.Name, dateOf(s.Until))
	fmt.Fprintf(w, "hosts    %s\n", orNone(s.Hosts))
	for _, ca := range s.Trusted {
		issued := ""
		if ca.Name == s.CA {
			issued = ", has issued it"
		}
		fmt.Fprintf(w, "trusts   %s, until %s%s\n", ca.Name, dateOf(ca.Until), issued)
	}
	if !s.Valid {
		fmt.Fprintf(w, "invalid  %s\n", s.Why)
	}
	return nil
}

// keyModeFault says what is wrong with who may read or change a key: nobody but its
// owner and a group that only reads.
func keyModeFault(name string) error {
	st, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // told by whoever reads it
	}
	if err == nil && st.Mode().Perm()&0o027 != 0 {
		err = fmt.Errorf("%s can be read or changed by others (mode %04o): chmod 600 %s", name, st.Mode().Perm(), name)
	}
	return err
}
