package torture

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// maxDetails bounds what is told of single faults.
const maxDetails = 50

// Result is what came of a run.
type Result struct {
	Seed    uint64  `json:"seed"`
	How     string  `json:"how"`     // kill, power or faults
	Rounds  int     `json:"rounds"`  // lives of the writer
	Seconds float64 `json:"seconds"` // of the whole run

	Volumes   int   `json:"volumes"` // made and acknowledged
	Sealed    int   `json:"volumes_sealed"`
	Compacted int   `json:"volumes_compacted"`
	Retired   int   `json:"volumes_retired"` // verified a last time and removed, to bound the room
	Puts      int64 `json:"acknowledged_puts"`
	Needles   int64 `json:"acknowledged_needles"`
	Bytes     int64 `json:"acknowledged_bytes"`
	Deletes   int64 `json:"acknowledged_deletes"`
	Verified  int64 `json:"verifications"` // of the whole directory

	Lost       int64 `json:"lost"`         // acknowledged needles that are not readable
	Back       int64 `json:"deleted_back"` // needles that are back from the dead
	Wrong      int64 `json:"wrong_bytes"`
	Damaged    int64 `json:"damaged"`    // findings of the engine's own check
	Unexpected int64 `json:"unexpected"` // anything else that must not happen

	UnackedWhole  int64 `json:"unacknowledged_found"` // groups, both allowed
	UnackedAbsent int64 `json:"unacknowledged_absent"`
	UnackedPart   int64 `json:"unacknowledged_part"` // groups of which some needles were found, each whole
	Late          int64 `json:"acknowledged_late"`   // after the power cut had begun: proves nothing, left open
	Refused       int64 `json:"refused"`             // puts refused for lack of room
	Failed        int64 `json:"failed"`              // calls that failed because of the crash or an injected fault
	Poisoned      int64 `json:"poisoned"`            // volumes that became read-only for the same reason

	Details []string `json:"details,omitempty"` // of the first faults
}

// OK reports whether everything is as it must be.
func (r *Result) OK() bool {
	return r.Lost == 0 && r.Back == 0 && r.Wrong == 0 && r.Damaged == 0 && r.Unexpected == 0
}

func (r *Result) detail(count *int64, what, format string, args []any) {
	*count++
	if len(r.Details) < maxDetails {
		r.Details = append(r.Details, what+": "+fmt.Sprintf(format, args...))
	}
}

func (r *Result) lost(format string, args ...any)   { r.detail(&r.Lost, "lost", format, args) }
func (r *Result) back(format string, args ...any)   { r.detail(&r.Back, "deleted back", format, args) }
func (r *Result) wrong(format string, args ...any)  { r.detail(&r.Wrong, "wrong bytes", format, args) }
func (r *Result) damage(format string, args ...any) { r.detail(&r.Damaged, "damaged", format, args) }
func (r *Result) unexpected(format string, args ...any) {
	r.detail(&r.Unexpected, "unexpected", format, args)
}

// Line sums the run up so far in one line.
func (r *Result) Line() string {
	return fmt.Sprintf("round %d, %s: %d puts (%d needles) and %d deletes acknowledged; lost %d, deleted back %d, wrong %d, damaged %d, unexpected %d",
		r.Rounds, time.Duration(r.Seconds*1e9).Round(100*time.Millisecond), r.Puts, r.Needles, r.Deletes,
		r.Lost, r.Back, r.Wrong, r.Damaged, r.Unexpected)
}

// WriteTable writes the result for people.
func (r *Result) WriteTable(out io.Writer) error {
	how := map[string]string{"kill": "kills", "power": "power cuts", "faults": "lives with failing calls"}[r.How]
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range []struct {
		what string
		n    any
	}{
		{how, r.Rounds}, {"seconds", fmt.Sprintf("%.0f", r.Seconds)}, {"verifications", r.Verified}, {"volumes made", r.Volumes},
		{"volumes sealed", r.Sealed}, {"volumes compacted", r.Compacted},
		{"acknowledged puts", r.Puts}, {"acknowledged needles", r.Needles}, {"acknowledged MiB", r.Bytes >> 20},
		{"acknowledged deletes", r.Deletes},
		{"unacknowledged puts found whole", r.UnackedWhole}, {"… found in part, each needle whole", r.UnackedPart}, {"… absent", r.UnackedAbsent},
		{"said after the cut, left open", r.Late},
		{"calls that failed rightly", r.Failed}, {"volumes poisoned rightly", r.Poisoned},
		{"acknowledged and LOST", r.Lost}, {"deleted and BACK", r.Back}, {"WRONG bytes", r.Wrong},
		{"DAMAGED", r.Damaged}, {"UNEXPECTED", r.Unexpected},
	} {
		if _, err := fmt.Fprintf(w, "%s\t%v\t\n", row.what, row.n); err != nil {
			return err
		}
	}
	return w.Flush()
}
