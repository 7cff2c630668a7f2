package media

import "encoding/binary"

// maxICC bounds a colour profile that is carried on. Those of cameras and
// screens have 0.5 to 4 KB, those of printing presses up to 2 MB.
const maxICC = 4 << 20

// validICC returns the profile cut to the length its header states, or nil
// when it is none (ICC.1:2022, 7.2).
func validICC(icc []byte) []byte {
	if len(icc) < 128 || string(icc[36:40]) != "acsp" {
		return nil
	}
	n := int64(binary.BigEndian.Uint32(icc))
	if n < 128 || n > int64(len(icc)) || n > maxICC {
		return nil
	}
	return icc[:n]
}

// iccSpace returns the profile's colour space signature, "RGB ", "GRAY" …
func iccSpace(icc []byte) string {
	if len(icc) < 20 {
		return ""
	}
	return string(icc[16:20])
}

// ICC returns the colour profile of an image that Inspect accepts, nil when it
// has none that is well formed.
func ICC(contentType string, data []byte) []byte {
	switch contentType {
	case TypeJPEG:
		return iccJPEG(data)
	case TypePNG:
		return iccPNG(data)
	case TypeWebP:
		return iccWebP(data)
	}
	return nil
}
