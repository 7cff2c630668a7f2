package api

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
	"hayloft/internal/testenv"
	"hayloft/media"
)

// photoSeen is the photo object as docs/api.md has it.
type photoSeen struct {
	PhotoID      id.ID             `json:"photo_id"`
	Author       authorBody        `json:"author"`
	Title        string            `json:"title"`
	Caption      string            `json:"caption"`
	Alt          string            `json:"alt"`
	Tags         []string          `json:"tags"`
	People       []id.ID           `json:"people"`
	Location     *locationSeen     `json:"location"`
	Visibility   string            `json:"visibility"`
	Status       string            `json:"status"`
	Failure      *failureSeen      `json:"failure,omitempty"`
	URLs         map[string]string `json:"urls"`
	Media        []mediaSeen       `json:"media"`
	LikeCount    uint64            `json:"like_count"`
	CommentCount uint64            `json:"comment_count"`
	Liked        bool              `json:"liked"`
	Saved        bool              `json:"saved"`
	CreatedAt    time.Time         `json:"created_at"`
	PublishedAt  *time.Time        `json:"published_at"` // null until ready
}

type locationSeen struct {
	Lat  float64 `json:"lat"`
	Lng  float64 `json:"lng"`
	Name string  `json:"name"`
	// PlaceID leads to other photos of the same place; absent without a name.
	PlaceID string `json:"place_id,omitempty"`
}

type failureSeen struct {
	Type  string `json:"type"`
	Title string `json:"title"`
}

// mediaSeen is one image of a photo. Width and height are the original's.
type mediaSeen struct {
	Width       int                    `json:"width"`
	Height      int                    `json:"height"`
	Placeholder string                 `json:"placeholder"` // BlurHash
	Colour      string                 `json:"colour"`      // dominant, #rrggbb
	URLs        map[string]variantSeen `json:"urls"`
}

type variantSeen struct {
	URL     string            `json:"url"`
	Width   int               `json:"width"`
	Height  int               `json:"height"`
	Formats map[string]string `json:"formats"` // URL by format
}

// What answers are read into that photos are in.
type (
	formSeen struct {
		formBody
		Photo photoSeen `json:"photo"`
	}
	searchSeen struct {
		searchBody
		Photos []photoSeen `json:"photos"`
	}
	notificationSeen struct {
		notificationBody
		Photo *photoSeen `json:"photo"`
	}
	notificationsSeen struct {
		notificationPage
		Items []notificationSeen `json:"items"`
	}
)

// seen is what of says a photo object has, made another way: by encoding/json.
func (r *request) seen(p feed.PhotoView) photoSeen {
	d := p.Details
	b := photoSeen{
		PhotoID: p.ID, Author: authorBody{p.Author, p.AuthorHandle, r.avatarURL(p.Avatar)}, Title: d.Title, Caption: d.Caption, Alt: d.Alt,
		Tags: append([]string{}, d.Tags...), People: append([]id.ID{}, d.People...), Visibility: visibilityNames[d.Visibility], Status: statusName(p.Status),
		URLs: map[string]string{}, Media: []mediaSeen{}, LikeCount: p.Likes, CommentCount: p.Comments, Liked: p.Liked, CreatedAt: utc(p.CreatedAt),
	}
	if l := d.Location; l != nil {
		b.Location = &locationSeen{l.Lat, l.Lng, l.Name, placeID(l)}
	}
	if p.Failure != nil {
		b.Failure = &failureSeen{problemBase + p.Failure.Type, p.Failure.Title}
	}
	if p.Status != feed.Ready {
		return b
	}
	at := utc(p.PublishedAt)
	b.PublishedAt = &at
	m := mediaSeen{p.Master.Width, p.Master.Height, p.Rendition.Placeholder, p.Rendition.Colour, map[string]variantSeen{}}
	add := func(name string, w, h int, format string) {
		url := r.mediaURL(&p, name)
		b.URLs[name], m.URLs[name] = url, variantSeen{url, w, h, map[string]string{format: url}}
	}
	for _, v := range p.Rendition.Variants {
		add(media.Variant(v.Alt).String(), v.Width, v.Height, "jpeg")
	}
	add("original", p.Master.Width, p.Master.Height, p.Master.ContentType[len("image/"):])
	b.Media = append(b.Media, m)
	return b
}

// TestPhotoObject compares photo objects with what encoding/json makes of the documented
// shape, byte for byte.
func TestPhotoObject(t *testing.T) {
	w := newWorld(t)
	r := &request{a: w.api}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range testenv.Rounds(2000) {
		p := randomPhoto(rng)
		got, err := json.Marshal(r.photo(p))
		if err != nil {
			t.Fatalf("%+v: %v", p, err)
		}
		var o object
		r.photo(p).write(&o)
		want, err := json.Marshal(r.seen(p))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(o.b, want) || !bytes.Equal(got, want) {
			t.Fatalf("got\n%s\nwant\n%s", o.b, want)
		}
	}
}

func randomPhoto(rng *rand.Rand) feed.PhotoView {
	some := func(n int) bool { return rng.IntN(n) == 0 }
	text := func() string {
		list := []string{"", "plain", "two words", "\"quoted\" \\ <b>&amp;</b>", "line\nand\ttab\r\b\f\x01\x1f\x7f", "Grüße 👋", "a\u2028b\u2029", "bad\xff\xc3", "\xed\xa0\x80"}
		return list[rng.IntN(len(list))]
	}
	at := func() time.Time { return time.UnixMilli(rng.Int64N(1 << 41)).In(time.FixedZone("", 3600)) }
	p := feed.PhotoView{AuthorHandle: "ada", AuthorEpoch: 3, Signed: some(3), Liked: some(2)}
	p.ID, p.Author, p.Likes, p.Comments = id.ID(rng.Uint64()>>1), id.ID(rng.Uint64()>>1), rng.Uint64(), rng.Uint64N(3)
	p.Status, p.CreatedAt, p.PublishedAt = feed.Status(rng.IntN(8)), at(), at()
	if some(2) {
		p.Status = feed.Ready
	}
	d := &p.Details
	d.Title, d.Caption, d.Alt = text(), text(), text()
	d.Visibility = []feed.Visibility{feed.Public, feed.Followers, feed.OnlyMe}[rng.IntN(3)]
	for range rng.IntN(3) {
		d.Tags, d.People = append(d.Tags, text()), append(d.People, id.ID(rng.Uint64N(3)))
	}
	if some(2) {
		d.Location = &feed.Location{Lat: (rng.Float64() - 0.5) * math.Pow(10, float64(rng.IntN(16)-12)), Lng: float64(rng.IntN(3) - 1), Name: text()}
	}
	if some(4) {
		p.Failure = &feed.Failure{Type: "unreadable", Title: text()}
	}
	if some(2) {
		p.Avatar = feed.Avatar{Blob: 7, Cookie: 9, Signed: some(2)}
	}
	p.Master = feed.Master{Blob: 5, Cookie: 6, Width: rng.IntN(9000), Height: 3, ContentType: []string{media.TypeJPEG, media.TypeHEIC}[rng.IntN(2)]}
	p.Rendition = feed.Rendition{Blob: 8, Cookie: 9, Placeholder: "LE~|&<", Colour: "#a4b5c6"}
	for _, alt := range rng.Perm(4)[:rng.IntN(5)] {
		p.Rendition.Variants = append(p.Rendition.Variants, feed.Variant{Alt: uint8(alt + 1), Width: rng.IntN(2000), Height: 2})
	}
	slices.Reverse(p.Rendition.Variants)
	return p
}

func FuzzQuote(f *testing.F) {
	f.Add("a\"<\u2028\xff\x00")
	f.Fuzz(func(t *testing.T, s string) {
		var o object
		o.quote(s)
		if want, err := json.Marshal(s); err != nil || !bytes.Equal(o.b, want) {
			t.Errorf("got %s, want %s (%v)", o.b, want, err)
		}
	})
}
