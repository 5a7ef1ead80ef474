// group-sum: reads JSON objects with "key" and "value" from standard input, one a line, and writes one object a key with count and sum, sorted by key.
// Lines that are no such object are counted in "bad" on standard error; the exit code is then 1.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"
)

type group struct {
	Key   string  `json:"key"`
	Count int     `json:"count"`
	Sum   float64 `json:"sum"`
}

func main() {
	groups := map[string]*group{}
	bad := 0
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 64*1024), 1024*1024)
	for lines.Scan() {
		var sample struct {
			Key   *string  `json:"key"`
			Value *float64 `json:"value"`
		}
		if json.Unmarshal(lines.Bytes(), &sample) != nil || sample.Key == nil || sample.Value == nil {
			bad++
			continue
		}
		g := groups[*sample.Key]
		if g == nil {
			g = &group{Key: *sample.Key}
			groups[*sample.Key] = g
		}
		g.Count++
		g.Sum += *sample.Value
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "group-sum:", err)
		os.Exit(1)
	}
	sorted := make([]*group, 0, len(groups))
	for _, g := range groups {
		sorted = append(sorted, g)
	}
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].Key < sorted[j].Key })
	out := json.NewEncoder(os.Stdout)
	for _, g := range sorted {
		if err := out.Encode(g); err != nil {
			os.Exit(1)
		}
	}
	if bad > 0 {
		fmt.Fprintln(os.Stderr, "group-sum: bad:", bad)
		os.Exit(1)
	}
}
