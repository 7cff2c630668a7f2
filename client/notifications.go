package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Notification is what the caller is told: one for each kind, subject and day.
type Notification struct {
	ID      string    `json:"id"`   // the same as long as it is added to
	Seq     uint64    `json:"seq"`  // greater whenever it is
	Kind    string    `json:"kind"` // follow, request, like, comment, mention or post
	At      time.Time `json:"at"`
	Count   int       `json:"count"`  // people, of post photos; 100: that many or more
	Actors  []Author  `json:"actors"` // up to three, newest first
	Photo   *Photo    `json:"photo"`
	Comment *Comment  `json:"comment"`
	Seen    bool      `json:"seen"`
}

// NotificationPage is a page of them.
type NotificationPage struct {
	Page[Notification]
	Unread int    `json:"unread"` // of all, 99 at most
	Seq    uint64 `json:"seq"`    // where a stream goes on
}

// Notifications returns one page of what the caller is told, what happened last first.
func (c *Client) Notifications(ctx context.Context, p PageOptions) (NotificationPage, error) {
	k := get("/notifications")
	k.query = p.values()
	var out NotificationPage
	err := c.do(ctx, k, &out)
	return out, err
}

// NotificationsSeen marks notifications as seen, up to a Seq; 0: all there are.
func (c *Client) NotificationsSeen(ctx context.Context, seq uint64) error {
	var body any
	if seq != 0 {
		body = map[string]uint64{"seq": seq}
	}
	k, err := jsonCall(http.MethodPost, "/notifications/seen", body)
	if err != nil {
		return err
	}
	k.repeatable = true
	return c.do(ctx, k, nil)
}

// Preferences returns of each kind of notification whether the caller wants it.
func (c *Client) Preferences(ctx context.Context) (map[string]bool, error) {
	var out map[string]bool
	err := c.do(ctx, get("/notifications/preferences"), &out)
	return out, err
}

// SetPreferences changes the kinds that are named, and returns all.
func (c *Client) SetPreferences(ctx context.Context, change map[string]bool) (map[string]bool, error) {
	k, err := jsonCall(http.MethodPatch, "/notifications/preferences", change)
	if err != nil {
		return nil, err
	}
	k.repeatable = true
	var out map[string]bool
	err = c.do(ctx, k, &out)
	return out, err
}

// Listen asks to be told when a user publishes, whom the caller must follow.
func (c *Client) Listen(ctx context.Context, user string) error {
	return c.onNamed(ctx, http.MethodPost, "/users/", user, "/listen")
}

// Unlisten undoes Listen.
func (c *Client) Unlisten(ctx context.Context, user string) error {
	return c.onNamed(ctx, http.MethodDelete, "/users/", user, "/listen")
}

// Listening returns one page of those whom the caller listens to.
func (c *Client) Listening(ctx context.Context, p PageOptions) (Page[User], error) {
	return page[User](ctx, c, "/listening", p)
}

// NotificationEvent is one event of a stream: a notification, or without one the number
// of unread ones.
type NotificationEvent struct {
	Notification *Notification
	Unread       int
}

// NotificationStream yields notifications with a Seq greater than after as they come,
// and the number of unread ones whenever it changes. When it is cut off it goes on where
// it was. It ends with ctx, or with an error that it yields.
func (c *Client) NotificationStream(ctx context.Context, after uint64) iter.Seq2[NotificationEvent, error] {
	return func(yield func(NotificationEvent, error) bool) {
		for attempt := 0; ; attempt++ {
			k := get("/notifications/stream")
			k.header = http.Header{"Accept": {"text/event-stream"}}
			k.query = url.Values{"after": {strconv.FormatUint(after, 10)}}
			res, err := c.send(ctx, k)
			if err != nil {
				if ctx.Err() == nil {
					yield(NotificationEvent{}, err)
				}
				return
			}
			on, err := readEvents(res.Body, func(e NotificationEvent) bool {
				attempt = 0
				if e.Notification != nil {
					after = e.Notification.Seq
				}
				return yield(e, nil)
			})
			res.Body.Close()
			if err != nil {
				yield(NotificationEvent{}, err)
				return
			}
			if !on || c.sleep(ctx, c.pause(attempt)) != nil {
				return
			}
		}
	}
}

// maxEventBytes bounds one line of a stream.
const maxEventBytes = 1 << 20

// readEvents gives the events of a stream to use until that says no (then on is
// false) or the stream ends. The error is that of an event which cannot be read.
func readEvents(body io.Reader, use func(NotificationEvent) bool) (on bool, err error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxEventBytes)
	var name, data string
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "event":
			name = value
		case "data":
			data = value
		case "":
			e := NotificationEvent{}
			switch name {
			case "notification":
				err = json.Unmarshal([]byte(data), &e.Notification)
			case "unread":
				err = json.Unmarshal([]byte(data), &e)
			default: // what a newer server may say
				continue
			}
			name = ""
			if err != nil {
				return false, fmt.Errorf("client: an event cannot be read: %w", err)
			}
			if !use(e) {
				return false, nil
			}
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) { // it would come again for ever
		return false, fmt.Errorf("client: an event is longer than %d bytes", maxEventBytes)
	}
	return true, nil
}
