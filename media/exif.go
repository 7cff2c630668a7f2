package media

import "encoding/binary"

// exifOrientation returns the orientation (1 to 8) that a TIFF block states in
// its first directory, 0 when it states none or is not well formed. A photo
// with odd metadata is still a photo, so there is no error.
func exifOrientation(tiff []byte) int {
	if len(tiff) < 8 {
		return 0
	}
	var order binary.ByteOrder
	switch string(tiff[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return 0
	}
	at := uint64(order.Uint32(tiff[4:]))
	if at+2 > uint64(len(tiff)) {
		return 0
	}
	count := uint64(order.Uint16(tiff[at:]))
	for i := range count {
		p := at + 2 + i*12
		if p+12 > uint64(len(tiff)) {
			return 0
		}
		if order.Uint16(tiff[p:]) != 0x0112 {
			continue
		}
		const short = 3
		value := int(order.Uint16(tiff[p+8:]))
		if order.Uint16(tiff[p+2:]) != short || order.Uint32(tiff[p+4:]) != 1 || value < 1 || value > 8 {
			return 0
		}
		return value
	}
	return 0
}

// minimalExif is the TIFF block that states an orientation and nothing else.
func minimalExif(orientation int) []byte {
	return []byte{
		'M', 'M', 0, '*', 0, 0, 0, 8, // big-endian, directory at 8
		0, 1, // one entry
		0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, byte(orientation), 0, 0, // orientation, one short
		0, 0, 0, 0, // no further directory
	}
}
