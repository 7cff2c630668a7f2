package mediatest

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Secrets are the texts and bytes that Plant hides in a file and that must not
// be found in anything served to others.
var Secrets = [][]byte{
	[]byte("HAYCAM-SERIAL-0042"),
	[]byte("HAYLENS-SERIAL-77"),
	[]byte("Olga Planted Owner"),
	[]byte("MAKERNOTE-SECRET"),
	[]byte("xmp-secret-instance"),
	[]byte("comment-secret"),
	[]byte("thumb-secret"),
	[]byte("trailing-secret"),
	{52, 0, 0, 0, 1, 0, 0, 0, 31, 0, 0, 0, 1, 0, 0, 0}, // the latitude's rationals, little-endian
	[]byte("GPSLatitude"),
}

// entry is one tag of a TIFF directory.
type entry struct {
	tag, typ uint16
	count    uint32
	data     []byte
}

const (
	tASCII    = 2
	tShort    = 3
	tLong     = 4
	tRational = 5
	tUndef    = 7
)

func ascii(tag uint16, s string) entry {
	return entry{tag, tASCII, uint32(len(s) + 1), append([]byte(s), 0)}
}

func long(tag uint16, v uint32) entry {
	return entry{tag, tLong, 1, binary.LittleEndian.AppendUint32(nil, v)}
}

func rationals(tag uint16, v ...uint32) entry {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return entry{tag, tRational, uint32(len(v) / 2), b}
}

// dir encodes a directory that lies at off and points on to next.
func dir(off uint32, next uint32, entries []entry) []byte {
	head := binary.LittleEndian.AppendUint16(nil, uint16(len(entries)))
	var tail []byte
	base := off + 2 + uint32(len(entries))*12 + 4
	for _, e := range entries {
		head = binary.LittleEndian.AppendUint16(head, e.tag)
		head = binary.LittleEndian.AppendUint16(head, e.typ)
		head = binary.LittleEndian.AppendUint32(head, e.count)
		if len(e.data) <= 4 {
			head = append(head, append(bytes.Clone(e.data), 0, 0, 0, 0)[:4]...)
			continue
		}
		head = binary.LittleEndian.AppendUint32(head, base+uint32(len(tail)))
		tail = append(tail, e.data...)
		if len(tail)%2 == 1 {
			tail = append(tail, 0)
		}
	}
	head = binary.LittleEndian.AppendUint32(head, next)
	return append(head, tail...)
}

// Exif returns a TIFF block as a camera writes it, full of Secrets: owner,
// serial numbers, maker note, position and an embedded thumbnail.
func Exif(orientation int) []byte {
	exif := []entry{
		ascii(0x9003, "2026:05:04 03:02:01"),
		{0x927c, tUndef, 64, append([]byte("MAKERNOTE-SECRET"), make([]byte, 48)...)},
		ascii(0xa430, "Olga Planted Owner"),
		ascii(0xa431, "HAYCAM-SERIAL-0042"),
		ascii(0xa435, "HAYLENS-SERIAL-77"),
	}
	gps := []entry{
		ascii(1, "N"), rationals(2, 52, 1, 31, 1, 12, 1),
		ascii(3, "E"), rationals(4, 13, 1, 24, 1, 18, 1),
	}
	thumb := append(append([]byte{0xff, 0xd8, 0xff, 0xfe, 0, 14}, "thumb-secret"...), 0xff, 0xd9)
	ifd0 := func(exifAt, gpsAt uint32) []entry {
		return []entry{
			ascii(0x010f, "Hayloft"), ascii(0x0110, "Planted Camera"),
			{0x0112, tShort, 1, []byte{byte(orientation), 0}},
			long(0x8769, exifAt), long(0x8825, gpsAt),
		}
	}
	at0 := uint32(8)
	atExif := at0 + uint32(len(dir(at0, 0, ifd0(0, 0))))
	atGPS := atExif + uint32(len(dir(atExif, 0, exif)))
	at1 := atGPS + uint32(len(dir(atGPS, 0, gps)))
	ifd1 := func(at uint32) []entry {
		return []entry{{0x0103, tShort, 1, []byte{6, 0}}, long(0x0201, at), long(0x0202, uint32(len(thumb)))}
	}
	atThumb := at1 + uint32(len(dir(at1, 0, ifd1(0))))
	out := []byte("II*\x00\x08\x00\x00\x00")
	out = append(out, dir(at0, at1, ifd0(atExif, atGPS))...)
	out = append(out, dir(atExif, 0, exif)...)
	out = append(out, dir(atGPS, 0, gps)...)
	out = append(out, dir(at1, 0, ifd1(atThumb))...)
	return append(out, thumb...)
}

// XMP is a packet that names a secret and a position.
var XMP = []byte(`<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description exif:GPSLatitude="52,31.2N" xmpMM:InstanceID="xmp-secret-instance"/></x:xmpmeta>`)

// JPEGSegment encodes one marker segment; payload is at most 65,533 bytes.
func JPEGSegment(marker byte, payload ...[]byte) []byte {
	body := bytes.Join(payload, nil)
	if len(body) > 65533 {
		panic(fmt.Sprintf("mediatest: a JPEG segment of %d bytes", len(body)))
	}
	out := []byte{0xff, marker}
	out = binary.BigEndian.AppendUint16(out, uint16(len(body)+2))
	return append(out, body...)
}

// PlantJPEG returns the JPEG with Exif, XMP, a comment and a maker's segment
// put after its first marker, as a camera does.
func PlantJPEG(jpeg []byte, orientation int) []byte {
	out := bytes.Clone(jpeg[:2])
	out = append(out, JPEGSegment(0xe1, []byte("Exif\x00\x00"), Exif(orientation))...)
	out = append(out, JPEGSegment(0xe1, []byte("http://ns.adobe.com/xap/1.0/\x00"), XMP)...)
	out = append(out, JPEGSegment(0xec, []byte("MAKERNOTE-SECRET"))...)
	out = append(out, JPEGSegment(0xfe, []byte("comment-secret"))...)
	return append(out, jpeg[2:]...)
}
