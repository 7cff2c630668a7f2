package cache

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// tick is the unit of processor times in /proc, in seconds.
const tick = 0.01

// cpuOf is the processor time of a process and its children that are there now,
// user and system, in seconds.
func cpuOf(pid int) (float64, error) {
	sum := 0.0
	for _, p := range append(childrenOf(pid), pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		if err != nil {
			return 0, err
		}
		// The name, in parentheses, may have spaces.
		cells := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(cells) < 13 {
			return 0, fmt.Errorf("/proc/%d/stat cannot be read", p)
		}
		for _, c := range cells[11:13] {
			v, err := strconv.ParseFloat(c, 64)
			if err != nil {
				return 0, err
			}
			sum += v * tick
		}
	}
	return sum, nil
}

// childrenOf are the children of a process, whichever of its threads started them.
func childrenOf(pid int) (out []int) {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil // it has ended
	}
	for _, t := range threads {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, t.Name()))
		if err != nil {
			continue
		}
		for _, f := range strings.Fields(string(text)) {
			if p, err := strconv.Atoi(f); err == nil {
				out = append(out, p)
			}
		}
	}
	return out
}

// statusBytes is a figure of /proc/PID/status that is in kB there: VmRSS, VmHWM.
func statusBytes(pid int, name string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no %s", pid, name)
}
