package tools

import (
	"fmt"
	"net/http"

	"hayloft/internal/admin"
	"hayloft/volume"
)

// kindPiece is a line of a decoded volume, followed by its bytes.
const kindPiece = "piece"

const (
	codedPath   = "/admin/ec"
	whyPath     = "/admin/why"
	clusterPath = "/admin/cluster"
)

// decodedPiece says what the bytes behind its line are.
type decodedPiece struct {
	Part string `json:"part"`
	CRC  string `json:"crc32c"`
}

// serveCoded adds the calls on coded volumes, and those that look at all at once.
func (s *service) serveCoded(d *admin.Door) {
	d.Look(http.MethodGet, codedPath, s.coded)
	d.Look(http.MethodGet, clusterPath, s.cluster)
	d.Look(http.MethodGet, whyPath+"/{what}", s.why)
	d.Guard(http.MethodPost, base+"/{volume}/encode", s.encode)
	d.Guard(http.MethodPost, base+"/{volume}/rebuild", s.rebuild)
	d.Guard(http.MethodGet, base+"/{volume}/decode", s.reading(s.decode))
}

func (s *service) coded(c *admin.Call) error {
	if _, err := c.Query(); err != nil {
		return err
	}
	list, err := s.k.Coded(c.Context())
	if err != nil {
		return err
	}
	return c.Answer(list)
}

func (s *service) cluster(c *admin.Call) error {
	if _, err := c.Query(); err != nil {
		return err
	}
	all, err := s.k.Cluster(c.Context())
	if err != nil {
		return err
	}
	return c.Answer(all)
}

func (s *service) why(c *admin.Call) error {
	if _, err := c.Query(); err != nil {
		return err
	}
	w, err := s.k.Why(c.Context(), c.Path("what"))
	if err != nil {
		return err
	}
	return c.Answer(w)
}

func (s *service) encode(c *admin.Call) error {
	return s.change(c, func(v volume.ID, _ *admin.Stream, report func(Progress)) (any, error) {
		return struct{}{}, s.k.Encode(c.Context(), v, report)
	})
}

func (s *service) rebuild(c *admin.Call) error {
	return s.change(c, func(v volume.ID, _ *admin.Stream, report func(Progress)) (any, error) {
		return struct{}{}, s.k.Rebuild(c.Context(), v, report)
	})
}

func (s *service) decode(c *admin.Call) error {
	return s.change(c, func(v volume.ID, to *admin.Stream, report func(Progress)) (any, error) {
		part := func(part string, b []byte) error {
			return to.SendBytes(kindPiece, decodedPiece{part, fmt.Sprintf("%08x", checksum(b))}, b)
		}
		return s.k.Decode(c.Context(), v, DecodeSink{Part: part, Report: report})
	})
}
