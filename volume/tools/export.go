package tools

import (
	"context"
	"fmt"
	"hash/crc32"
	"net/http"

	"hayloft/internal/id"
	"hayloft/volume"
)

// ExportSink takes what an export finds.
type ExportSink struct {
	// Needle takes one needle; the bytes are the sink's for the call only.
	Needle func(Exported, []byte) error
	// Damaged is told, in one line, what cannot be exported.
	Damaged func(string) error
}

// Exported is one needle of an export.
type Exported struct {
	File   string    `json:"file"` // a relative path; nothing in it is a text from outside
	Size   int       `json:"size"`
	ETag   string    `json:"etag"` // CRC32C of the bytes
	Class  string    `json:"class"`
	Volume volume.ID `json:"volume"`
	Blob   id.ID     `json:"blob"`
	Alt    uint8     `json:"alt"`
	Cookie string    `json:"cookie"`
	Master *Master   `json:"master,omitempty"`
}

// pace is asked before n bytes are read; nil: at once.
type pace func(ctx context.Context, n int64) error

// export gives the live needles of one volume to s. data names its directory.
func export(ctx context.Context, v *volume.Volume, data string, p pace, s ExportSink) error {
	ident := v.Identity()
	var failed error // of the sink
	complain := func(format string, args ...any) {
		if failed == nil {
			failed = s.Damaged(fmt.Sprintf("volume %d in %s: ", ident.Volume, data) + fmt.Sprintf(format, args...))
		}
	}
	if n := v.Stats().Rot; n > 0 {
		complain("%d parts of the file are damaged: what needles lay there is unknown", n)
	}
	err := v.Export(ctx, p, func(n volume.Needle) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if failed != nil {
			return failed
		}
		return s.Needle(exported(ident, n), n.Data)
	}, func(f volume.Finding) { complain("blob %v alt %d: %s", f.Key, f.Alt, OneLine(f.Err)) })
	if err == nil {
		err = failed
	}
	return err
}

// exported is the description of one needle.
func exported(ident volume.Identity, n volume.Needle) Exported {
	return Exported{
		File: exportName(ident.Class, n), Size: len(n.Data), ETag: fmt.Sprintf("%08x", checksum(n.Data)), Class: ident.Class.String(),
		Volume: ident.Volume, Blob: n.Key, Alt: n.Alt, Cookie: n.Cookie.String(), Master: masterOf(n.Master),
	}
}

// unexported says why nothing of a volume is in an export.
func unexported(v volume.ID, data string, why error) string {
	return fmt.Sprintf("volume %d in %s: %s", v, data, OneLine(why))
}

// exportName is where a needle goes. Nothing in it is a text from outside.
func exportName(class volume.Class, n volume.Needle) string {
	ext := extensionOf(n)
	if m := n.Master; m != nil {
		return fmt.Sprintf("originals/%v/%s-%v-%v%s", m.Owner, m.Time.UTC().Format("20060102T150405"), m.Photo, n.Key, ext)
	}
	return fmt.Sprintf("%s/%v-%d%s", class, n.Key, n.Alt, ext)
}

// extensionOf goes by the content type, or by the first bytes without one.
func extensionOf(n volume.Needle) string {
	contentType := ""
	if n.Master != nil {
		contentType = n.Master.ContentType
	}
	if contentType == "" {
		contentType = http.DetectContentType(n.Data)
	}
	known := map[string]string{
		"image/jpeg": ".jpg", "image/png": ".png", "image/gif": ".gif", "image/webp": ".webp", "image/avif": ".avif", "image/heic": ".heic",
	}
	if ext, ok := known[contentType]; ok {
		return ext
	}
	return ".bin"
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
