// Package units reads and writes the sizes and durations of Hayloft's command
// line: 32GiB, 90d. Values are plain int64 bytes and time.Duration; the types
// here implement the flag interfaces of pflag.
package units
