// Package spread makes of numbers that are alike, such as ids minted one after the
// other, numbers that are not. It is a leaf.
package spread
