package main

import (
	"strings"
	"testing"
)

func TestCachePolicySetting(t *testing.T) {
	for value, fault := range map[string]string{"": "", "lru": "", "arc": `--cache-policy "arc" is none of fifo, lru, s4lru, sieve, s3fifo`} {
		env := map[string]string{}
		if value != "" {
			env["HAYLOFT_CACHE_POLICY"] = value
		}
		s, _, _, err := parse(t, env)
		if err != nil {
			t.Fatal(err)
		}
		switch err := s.validate(); {
		case fault == "" && err != nil:
			t.Errorf("%q: %v", value, err)
		case fault != "" && (err == nil || !strings.Contains(err.Error(), fault)):
			t.Errorf("%q: %v, want %s", value, err, fault)
		}
	}
}

func TestCacheDeviceSettings(t *testing.T) {
	s, _, _, err := parse(t, map[string]string{"HAYLOFT_CACHE_DIR": "/ssd", "HAYLOFT_CACHE_DIR_SIZE": "1MiB", "HAYLOFT_CACHE_DIR_RATE": "0B"})
	if err != nil {
		t.Fatal(err)
	}
	err = s.validate()
	for _, want := range []string{"--cache-dir-size 1MiB is less than 16MiB", "--cache-dir-rate must be positive"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestMemcachedSetting(t *testing.T) {
	for value, fault := range map[string]bool{"": false, "127.0.0.1:11211,cache.internal:11211": false, "127.0.0.1": true, ":11211": true, "a:1,b": true} {
		s, _, _, err := parse(t, map[string]string{"HAYLOFT_MEMCACHED": value})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.validate(); (err != nil) != fault {
			t.Errorf("%q: %v", value, err)
		}
	}
}
