package id

// Cookie is the 64 random bits that must be presented to read a blob
// (Haystack paper, section 3.4: a guessed id reveals nothing). Zero is no
// cookie. Its text form is that of an ID.
type Cookie uint64

// String returns the 13 characters of lower-case Crockford base32.
func (c Cookie) String() string { return ID(c).String() }

// ParseCookie reads the text form; any other text is ErrMalformed.
func ParseCookie(s string) (Cookie, error) {
	v, err := Parse(s)
	return Cookie(v), err
}
