package main

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hayloft/internal/mesh"
	"hayloft/internal/mesh/certs"
	"hayloft/internal/vfs"

	"github.com/spf13/cobra"
)

// How far the files of a certificate may be open when they are replaced.
const (
	certMode = 0o644
	keyMode  = 0o640
)

// caKeyFile, beside a CA's ca.pem, is what makes certificates. It is on no node.
const caKeyFile = "ca.key"

const (
	day         = 24 * time.Hour
	caYears     = 10
	defaultDays = 365
)

func newCert() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Make and replace the certificates by which nodes know one another",
		Args:  wantArgs(0, 0, "one of its commands"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCertCA(), newCertNode(), newCertClient(), newCertRenew(), newCertTrust(), newCertShow())
	return cmd
}

func newCertCA() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "ca --out DIR",
		Short: "Make a CA: ca.pem, and ca.key, which belongs on no node",
		Args:  wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return usagef("--out says where to: keep the directory safe, whoever has it can be any node")
			}
			ca, err := certs.NewAuthority(time.Now(), caYears*365*day)
			if err != nil {
				return err
			}
			key, err := ca.KeyPEM()
			if err != nil {
				return err
			}
			if err := newCertFiles(out, secretFile{caKeyFile, key}, secretFile{mesh.CAFile, ca.CertPEM()}); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s until %s in %s\n", ca.Cert.Subject.CommonName, dateOf(ca.Cert.NotAfter), out)
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "directory for the CA, which is made")
	return cmd
}

func dateOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// issuing is what node and client have in common.
type issuing struct {
	ca, name, out string
	hosts         []string
	days          int
}

func newCertNode() *cobra.Command {
	i := &issuing{}
	cmd := &cobra.Command{
		Use:   "node --ca DIR --name NAME --host HOST[,HOST] --out DIR",
		Short: "Make a node's certificate: the directory for --certs",
		Args:  wantArgs(0, 0, "no arguments"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return i.run(cmd, certs.Node) },
	}
	i.define(cmd)
	cmd.Flags().StringSliceVar(&i.hosts, "host", nil, "host names and addresses of the node")
	return cmd
}

func newCertClient() *cobra.Command {
	i := &issuing{}
	cmd := &cobra.Command{
		Use:   "client --ca DIR --name NAME --out DIR",
		Short: "Make the certificate of a program that asks nodes and is none",
		Args:  wantArgs(0, 0, "no arguments"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return i.run(cmd, certs.Client) },
	}
	i.define(cmd)
	return cmd
}

func (i *issuing) define(cmd *cobra.Command) {
	cmd.Flags().StringVar(&i.ca, "ca", "", "directory of the CA")
	cmd.Flags().StringVar(&i.name, "name", "", "name: 1 to 32 of a-z, 0-9 and -; the file node in a data directory has that of a node that has run alone")
	cmd.Flags().StringVar(&i.out, "out", "", "directory for the certificate, which is made")
	cmd.Flags().IntVar(&i.days, "days", defaultDays, "how long it is valid")
}

func (i *issuing) run(cmd *cobra.Command, role certs.Role) error {
	switch {
	case i.ca == "" || i.out == "":
		return usagef("--ca names the directory of the CA, --out the one for the certificate")
	case !certs.ValidName(i.name):
		return usagef("--name %q: 1 to 32 of a-z, 0-9 and -", i.name)
	case role == certs.Node && len(i.hosts) == 0:
		return usagef("--host says where the node is: its host names and addresses")
	case i.days < 1:
		return usagef("--days %d is less than one", i.days)
	}
	ca, err := readCA(i.ca)
	if err != nil {
		return err
	}
	key, err := certs.NewKey()
	if err != nil {
		return err
	}
	c, err := ca.Issue(certs.Subject{Role: role, Name: i.name}, i.hosts, key.Public(), time.Now(), time.Duration(i.days)*day)
	if err != nil {
		return err
	}
	keyText, err := certs.KeyPEM(key)
	if err != nil {
		return err
	}
	err = newCertFiles(i.out, secretFile{mesh.KeyFile(role), keyText},
		secretFile{mesh.CertFile(role), certs.CertPEM(c)}, secretFile{mesh.CAFile, ca.CertPEM()})
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s %s until %s in %s\n", role, i.name, dateOf(c.NotAfter), i.out)
	return nil
}

// readCA reads the directory of a CA.
func readCA(dir string) (*certs.Authority, error) {
	cert, err := readCertFile(dir, mesh.CAFile)
	if err != nil {
		return nil, err
	}
	key, err := readCertFile(dir, caKeyFile)
	if err != nil {
		return nil, err
	}
	ca, err := certs.ParseAuthority(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return ca, nil
}

func readCertFile(dir, name string) ([]byte, error) {
	return vfs.ReadFile(vfs.OS{}, filepath.Join(dir, name), 1<<20)
}

// secretFile is a file that only its owner may read.
type secretFile struct {
	name string
	text []byte
}

// newCertFiles makes the directory and the files in it, none of which may be there.
func newCertFiles(dir string, files ...secretFile) error {
	if err := (vfs.OS{}).MkdirAll(dir); err != nil {
		return err
	}
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.name)); err == nil {
			return fmt.Errorf("%s has a %s: take another directory, nothing is overwritten", dir, f.name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, f := range files {
		if err := writeSecret(dir, f.name, f.text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// certDir is a directory of somebody's certificates, for --certs or a client.
type certDir struct {
	dir  string
	role certs.Role
	cert *x509.Certificate
	who  certs.Subject
	cas  []*x509.Certificate
	keys []*ecdsa.PrivateKey // none when the key is not there
}

func readCertDir(dir string) (d certDir, err error) {
	d.dir, d.role = dir, certs.Node
	text, err := readCertFile(dir, mesh.CertFile(d.role))
	if errors.Is(err, fs.ErrNotExist) {
		d.role = certs.Client
		if text, err = readCertFile(dir, mesh.CertFile(d.role)); errors.Is(err, fs.ErrNotExist) {
			return d, fmt.Errorf("%s has neither %s nor %s", dir, mesh.CertFile(certs.Node), mesh.CertFile(certs.Client))
		}
	}
	if err != nil {
		return d, err
	}
	fault := func(name string, err error) (certDir, error) {
		return d, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
	}
	list, err := certs.ParseCerts(text)
	if err != nil {
		return fault(mesh.CertFile(d.role), err)
	}
	d.cert = list[0]
	if d.who, err = certs.SubjectOf(d.cert); err != nil {
		return fault(mesh.CertFile(d.role), err)
	}
	if text, err = readCertFile(dir, mesh.CAFile); err != nil {
		return d, err
	}
	if d.cas, err = certs.ParseCerts(text); err != nil {
		return fault(mesh.CAFile, err)
	}
	if text, err = readCertFile(dir, mesh.KeyFile(d.role)); errors.Is(err, fs.ErrNotExist) {
		return d, nil
	} else if err != nil {
		return d, err
	}
	if d.keys, err = certs.ParseKeys(text); err != nil {
		return fault(mesh.KeyFile(d.role), err)
	}
	return d, nil
}

// issuer returns the CA in ca.pem that made the certificate, or nil.
func (d certDir) issuer() *x509.Certificate {
	for _, ca := range d.cas {
		if d.cert.CheckSignatureFrom(ca) == nil {
			return ca
		}
	}
	return nil
}

// hosts are the names and addresses in a certificate.
func hostsOf(c *x509.Certificate) []string {
	hosts := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	return hosts
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
