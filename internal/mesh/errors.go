package mesh

import (
	"errors"
	"fmt"
)

// Why a node can't be asked. All but ErrClosed and ErrSelf come inside an
// UnreachableError.
var (
	ErrClosed    = errors.New("mesh is closed")
	ErrNoAddress = errors.New("nobody has said where the node is")
	ErrMistaken  = errors.New("another node answers there")
	ErrSelf      = errors.New("it is this process itself")
	ErrBusy      = errors.New("the node takes no more connections from here")
	ErrDuplicate = errors.New("two processes have a certificate with the same name")
	ErrTooLarge  = errors.New("larger than what may be sent")
	errNotNode   = errors.New("is no node")
)

// UnreachableError says that no answer came from a node.
type UnreachableError struct {
	Node string // as it was asked for: a name, or an address of Hello
	// Sent is whether any of the question may have gone out. Without it, the node has
	// certainly not seen it.
	Sent bool
	Err  error
}

func (e *UnreachableError) Error() string { return fmt.Sprintf("node %s: %v", e.Node, e.Err) }

func (e *UnreachableError) Unwrap() error { return e.Err }

// RefusedError is a node's answer to Call that is not a success.
type RefusedError struct {
	Node   string
	Status int    // of HTTP
	Code   string // of Refusal, or ""
	Text   string
}

func (e *RefusedError) Error() string { return fmt.Sprintf("node %s: %s", e.Node, e.Text) }

// Refusal is an error that an Answer may return, to be told apart by the caller:
// there it is a RefusedError with the same Status, Code and Text.
type Refusal struct {
	Status int    // 400 to 599
	Code   string // a word
	Text   string
}

func (r *Refusal) Error() string { return r.Text }
