package tools

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"hayloft/internal/admin"
	"hayloft/volume"
)

// A query arrives as it was sent; one that makes no sense is refused.
func TestQueryOnTheWay(t *testing.T) {
	for _, q := range []Query{
		{Alt: AllAlts}, {Alt: 0}, {Alt: 3, From: 8192, To: 9000, Damaged: true, Cookies: true, Key: 77, Kinds: []string{"needle", "gap"}},
	} {
		got, err := queryOf(q.values())
		if err != nil || !reflect.DeepEqual(got, q) {
			t.Errorf("%+v became %+v, %v", q, got, err)
		}
	}
	for _, bad := range []string{"kind=x", "alt=-2", "alt=x", "from=-1", "from=9&to=8", "to=x", "damaged=maybe", "cookies=2", "key=0", "key=../x"} {
		v, err := url.ParseQuery(bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := queryOf(v); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

// What is damaged on its way, or cut off, is no export.
func TestExportDamagedOnItsWay(t *testing.T) {
	data := []byte("photo")
	good := Exported{File: "a", Size: len(data), ETag: fmt.Sprintf("%08x", checksum(data))}
	for _, c := range []struct {
		e    Exported
		data string
		ends bool
		says string
	}{
		{good, "photo", true, ""}, {good, "phot0", true, "damaged on its way"}, {good, "photos", true, "damaged on its way"}, {good, "photo", false, "cut off"},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-ndjson")
			e, _ := json.Marshal(c.e)
			line, _ := json.Marshal(admin.Line{Kind: kindNeedle, Value: e, Bytes: int64(len(c.data))})
			fmt.Fprintf(w, "%s\n%s", line, c.data)
			fmt.Fprintln(w, `{"kind":"novelty","value":1}`) // of a newer server
			if c.ends {
				fmt.Fprintln(w, `{"kind":"result","value":{}}`)
			}
		}))
		client, err := admin.NewClient(s.URL, "")
		if err != nil {
			t.Fatal(err)
		}
		err = NewRemote(client).Export(t.Context(), 1, ExportSink{Needle: func(Exported, []byte) error { return nil }})
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c, err)
		}
		client.Close()
		s.Close()
	}
}

func TestFindingsAreBounded(t *testing.T) {
	var r Verified
	for range maxFindings + 5 {
		r.found(volume.Finding{Kind: volume.FindingGap, Key: 7, Length: 3})
	}
	if len(r.Findings) != maxFindings || r.Omitted != 5 {
		t.Errorf("%d kept, %d omitted", len(r.Findings), r.Omitted)
	}
	if s := r.Findings[0].String(); !strings.HasPrefix(s, "gap at 0, 3 bytes key ") {
		t.Error(s)
	}
}

// What opening a volume reports is damage, worth a note, or neither.
func TestOpeningNotes(t *testing.T) {
	all := []volume.Event{
		{Kind: volume.EventRot}, {Kind: volume.EventScanning}, {Kind: volume.EventVoid, Length: 8}, {Kind: volume.EventRecovered, Length: 9},
		{Kind: volume.EventPoisoned, Err: volume.ErrPoisoned}, {Kind: volume.EventCheckpointFailed},
	}
	for _, marked := range []bool{false, true} {
		var r Verified
		r.opening(all, marked)
		if marked && (len(r.Findings) != 0 || len(r.Notes) != 4) || !marked && (len(r.Findings) != 1 || len(r.Notes) != 3) {
			t.Errorf("marked %v: %+v", marked, r)
		}
	}
}
