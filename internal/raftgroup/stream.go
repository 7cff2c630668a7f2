package raftgroup

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A snapshot stream, little-endian (docs/group-format.md):
//
//	head    "HLsnaps1", u32 version, u64 state index, u32 files, u32 CRC32C of the former
//	file    u16 length of the name, name, u64 size, u32 CRC32C of the former,
//	        then its bytes in chunks of 1 MiB, the last one shorter, each followed by u32 CRC32C
//	end     "HLsnapE1"
//
// Its length follows from names and sizes alone, so it is known before a byte
// is read.
const (
	streamMagic   = "HLsnaps1"
	streamEnd     = "HLsnapE1"
	streamVersion = 1
	streamChunk   = 1 << 20
	maxFiles      = 1 << 20
)

func streamSize(files []snapFile) int64 {
	n := int64(8 + 4 + 8 + 4 + 4 + 8)
	for _, f := range files {
		chunks := (f.Size + streamChunk - 1) / streamChunk
		n += 2 + int64(len(f.Name)) + 8 + 4 + f.Size + 4*chunks
	}
	return n
}

// checkName refuses names that would leave the directory.
func checkName(name string, size int64) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\\\x00") || size < 0 {
		return fmt.Errorf("%w: snapshot file %q of %d bytes", ErrCorrupt, name, size)
	}
	return nil
}

func writeStream(w io.Writer, fs vfs.FS, dir string, stateIndex uint64, files []snapFile) error {
	head := binary.LittleEndian.AppendUint32([]byte(streamMagic), streamVersion)
	head = binary.LittleEndian.AppendUint64(head, stateIndex)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(files)))
	if _, err := w.Write(withCRC(head)); err != nil {
		return err
	}
	buf := make([]byte, streamChunk+4)
	for _, f := range files {
		h := binary.LittleEndian.AppendUint16(nil, uint16(len(f.Name)))
		h = append(h, f.Name...)
		h = binary.LittleEndian.AppendUint64(h, uint64(f.Size))
		if _, err := w.Write(withCRC(h)); err != nil {
			return err
		}
		if err := writeFile(w, fs, fs.PathJoin(dir, f.Name), f.Size, buf); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, streamEnd)
	return err
}

func writeFile(w io.Writer, fs vfs.FS, name string, size int64, buf []byte) error {
	src, err := fs.Open(name, vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	defer src.Close()
	for size > 0 {
		n := min(size, streamChunk)
		if _, err := io.ReadFull(src, buf[:n]); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrCorrupt, path.Base(name), err)
		}
		if _, err := w.Write(withCRC(buf[:n])); err != nil {
			return err
		}
		size -= n
	}
	return nil
}

func withCRC(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readStream writes the files of a stream to dir, synced, and returns what the
// head said. dir is made; after an error it holds rubbish.
func readStream(src io.Reader, fs vfs.FS, dir string) (stateIndex uint64, files []snapFile, err error) {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return 0, nil, err
	}
	r := bufio.NewReaderSize(src, 64<<10)
	head, err := readCRC(r, 8+4+8+4)
	if err != nil {
		return 0, nil, err
	}
	if string(head[:8]) != streamMagic {
		return 0, nil, fmt.Errorf("%w: not a snapshot stream", ErrCorrupt)
	}
	if v := binary.LittleEndian.Uint32(head[8:]); v != streamVersion {
		return 0, nil, fmt.Errorf("%w: snapshot stream version %d", ErrUnsupported, v)
	}
	stateIndex = binary.LittleEndian.Uint64(head[12:])
	count := binary.LittleEndian.Uint32(head[20:])
	if count > maxFiles {
		return 0, nil, fmt.Errorf("%w: snapshot of %d files", ErrCorrupt, count)
	}
	for range count {
		f, err := readFileHead(r)
		if err != nil {
			return 0, nil, err
		}
		if err := writeSynced(fs, fs.PathJoin(dir, f.Name), &chunkReader{r: r, left: f.Size}); err != nil {
			return 0, nil, err
		}
		files = append(files, f)
	}
	end := make([]byte, len(streamEnd))
	if _, err := io.ReadFull(r, end); err != nil || string(end) != streamEnd {
		return 0, nil, fmt.Errorf("%w: snapshot stream has no end", ErrCorrupt)
	}
	return stateIndex, files, syncDir(fs, dir)
}

func readFileHead(r io.Reader) (snapFile, error) {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return snapFile{}, fmt.Errorf("%w: snapshot stream cut short", ErrCorrupt)
	}
	size := int(binary.LittleEndian.Uint16(n[:]))
	rest := make([]byte, size+8+4)
	if _, err := io.ReadFull(r, rest); err != nil {
		return snapFile{}, fmt.Errorf("%w: snapshot stream cut short", ErrCorrupt)
	}
	crc := crc32.Update(crc32.Checksum(n[:], castagnoli), castagnoli, rest[:size+8])
	if crc != binary.LittleEndian.Uint32(rest[size+8:]) {
		return snapFile{}, fmt.Errorf("%w: snapshot stream checksum", ErrCorrupt)
	}
	f := snapFile{Name: string(rest[:size]), Size: int64(binary.LittleEndian.Uint64(rest[size:]))}
	return f, checkName(f.Name, f.Size)
}

// readCRC reads n bytes and the checksum behind them.
func readCRC(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, n+4)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%w: snapshot stream cut short", ErrCorrupt)
	}
	if crc32.Checksum(b[:n], castagnoli) != binary.LittleEndian.Uint32(b[n:]) {
		return nil, fmt.Errorf("%w: snapshot stream checksum", ErrCorrupt)
	}
	return b[:n], nil
}

// chunkReader yields the bytes of one file, each chunk after its checksum held.
type chunkReader struct {
	r     io.Reader
	left  int64
	chunk []byte
}

func (c *chunkReader) Read(p []byte) (int, error) {
	if len(c.chunk) == 0 {
		if c.left == 0 {
			return 0, io.EOF
		}
		b, err := readCRC(c.r, int(min(c.left, streamChunk)))
		if err != nil {
			return 0, err
		}
		c.chunk = b
		c.left -= int64(len(b))
	}
	n := copy(p, c.chunk)
	c.chunk = c.chunk[n:]
	return n, nil
}

// streamReader is the reading end of a stream that a goroutine writes.
type streamReader struct {
	*io.PipeReader
	done chan struct{}
	end  func()
}

func newStreamReader(write func(io.Writer) error, end func()) *streamReader {
	pr, pw := io.Pipe()
	s := &streamReader{PipeReader: pr, done: make(chan struct{}), end: end}
	go func() {
		defer close(s.done)
		w := bufio.NewWriterSize(pw, 64<<10)
		err := write(w)
		if err == nil {
			err = w.Flush()
		}
		pw.CloseWithError(err) // nil becomes io.EOF
	}()
	return s
}

// Close ends the writer, waits for it and gives the snapshot back.
func (s *streamReader) Close() error {
	err := s.PipeReader.Close()
	<-s.done
	if s.end != nil {
		s.end()
		s.end = nil
	}
	return err
}

// writeSynced makes a file with the bytes of src and syncs it.
func writeSynced(fs vfs.FS, name string, src io.Reader) error {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, src)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// writeNamed makes a small file whole or not at all, and its name durable.
func writeNamed(fs vfs.FS, name string, b []byte) error {
	if err := writeSynced(fs, name+tmpSuffix, bytes.NewReader(b)); err != nil {
		return err
	}
	if err := fs.Rename(name+tmpSuffix, name); err != nil {
		return err
	}
	return syncDir(fs, fs.PathDir(name))
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDir makes a directory and its missing parents and syncs each one's name.
func makeDir(fs vfs.FS, dir string) error {
	var missing []string // deepest first
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := fs.Stat(d); err == nil || d == filepath.Dir(d) {
			break
		}
		missing = append(missing, d)
	}
	if len(missing) == 0 {
		return nil
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, d := range missing {
		if err := syncDir(fs, filepath.Dir(d)); err != nil {
			return err
		}
	}
	return nil
}

// readFile reads a file of at most limit bytes.
func readFile(fs vfs.FS, name string, limit int64) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrCorrupt, path.Base(name), st.Size())
	}
	b := make([]byte, st.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, err
	}
	return b, nil
}
