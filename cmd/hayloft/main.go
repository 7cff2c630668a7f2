// Command hayloft is the whole of Hayloft in one static binary.
package main

func main() {}
