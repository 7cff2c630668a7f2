package main

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"hayloft/internal/clock"
)

// TestUnled: a stop gives up on a directory that nobody leads, not on one that elects.
func TestUnled(t *testing.T) {
	nobody := errors.New("no leader is known")
	for _, tt := range []struct {
		name string
		led  func(at time.Duration) bool
		over time.Duration
		want time.Duration // 0: never
	}{
		{"nobody", func(time.Duration) bool { return false }, 5 * time.Second, time.Second},
		{"election", func(at time.Duration) bool { return at >= 850*time.Millisecond }, 5 * time.Second, 0},
		{"lost meanwhile", func(at time.Duration) bool { return at < 2*time.Second }, 5 * time.Second, 2900 * time.Millisecond},
		{"quick", func(time.Duration) bool { return false }, 300 * time.Millisecond, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, over := time.Now(), make(chan struct{})
				timer := time.AfterFunc(tt.over, func() { close(over) })
				defer timer.Stop()
				got := unled(clock.Real{}, over, func() error {
					if tt.led(time.Since(began)) {
						return nil
					}
					return nobody
				})
				if at := time.Since(began); got != (tt.want > 0) || got && at != tt.want {
					t.Errorf("%v after %v, want %v", got, at, tt.want)
				}
			})
		})
	}
}
