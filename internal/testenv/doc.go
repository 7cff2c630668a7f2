// Package testenv tells tests how the binary they run in was built, so that
// random tests can take a share of their usual rounds where each is slow, and
// lets them tell what they tried. It is imported by tests only.
package testenv
