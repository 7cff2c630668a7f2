package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"sync"
	"testing"

	"hayloft/media"
	"hayloft/media/mediatest"
)

// program is where build puts the binary.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "hayloft-media-test")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "hayloft-media")
	cmd := exec.Command("go", "build", "-o", out, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if b, err := cmd.CombinedOutput(); err != nil {
		return out, fmt.Errorf("building hayloft-media (it needs libvips-dev, see the Makefile): %w\n%s", err, b)
	}
	return out, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if out, _ := program(); out != "" {
		_ = os.RemoveAll(filepath.Dir(out))
	}
	os.Exit(code)
}

// build makes the program with cgo, however the tests themselves are built.
func build(t testing.TB) string {
	t.Helper()
	out, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestConformance(t *testing.T) {
	mediatest.Conformance(t, []string{build(t)})
}

func BenchmarkPhoto(b *testing.B) { mediatest.Bench(b, []string{build(b)}) }

// What Go cannot decode is compared here: a stripped file yields the variants
// of the file itself.
func TestStrippedFilesDecodeAlike(t *testing.T) {
	p, err := media.NewPool(media.PoolOptions{Command: []string{build(t)}, Limits: media.Limits{HEIF: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, name := range []string{"planted.avif", "planted.heic", "still.avif", "animated.webp"} {
		file := mediatest.File(name)
		info, err := media.Inspect(file, media.Limits{HEIF: true})
		if err != nil {
			t.Fatal(err)
		}
		clean, err := media.Strip(info.ContentType, file)
		if err != nil {
			t.Fatal(err)
		}
		a, err1 := p.Make(t.Context(), file)
		b, err2 := p.Make(t.Context(), clean)
		if err1 != nil || err2 != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s: the variants differ: %v, %v", name, err1, err2)
		}
	}
}

func TestUsage(t *testing.T) {
	out, err := exec.Command(build(t), "many").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !bytes.Contains(out, []byte("usage:")) {
		t.Errorf("%v: %s", err, out)
	}
}

// The resampler is C: it runs over random shapes under the sanitizers.
func TestResampleStaysWithinItsBuffers(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "check")
	cc := exec.Command("gcc", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
		"-o", bin, "testdata/resample_check.c", "resample.c", "-lm")
	if b, err := cc.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	seed := strconv.FormatUint(uint64(rand.Uint32()), 10)
	if b, err := exec.Command(bin, seed).CombinedOutput(); err != nil {
		t.Fatalf("seed %s: %v\n%s", seed, err, b)
	}
}
