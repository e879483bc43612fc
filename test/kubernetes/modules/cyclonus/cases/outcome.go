package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mattfenwick/cyclonus/pkg/connectivity"
	"github.com/mattfenwick/cyclonus/pkg/connectivity/probe"
	"github.com/mattfenwick/cyclonus/pkg/generator"
)

// outcome is what a case came to, with one destination.
type outcome struct {
	Name        string              `json:"name"`
	Destination generator.ProbeMode `json:"destination"`
	Passed      bool                `json:"passed"`
	// Seconds of the case with all its destinations.
	Seconds float64 `json:"seconds"`
	// Repeated counts probes beyond one for each step: those before them were wrong, for one of the destinations.
	Repeated int `json:"repeated"`
	// Message has the connections that were not as they should be, in the first step that has some.
	Message string `json:"message"`
	// First is the same of a first probe that was wrong, where the second was right.
	First string `json:"first"`
}

// judge compares the last probe of each step with what cyclonus expects.
func judge(destination generator.ProbeMode, result *connectivity.Result, probes []probeResult) outcome {
	one := outcome{Destination: destination}
	if result.Err != nil {
		one.Message = result.Err.Error()
	}
	last := -1
	for at, step := range result.Steps {
		tries := len(step.KubeProbes)
		one.Repeated += tries - 1
		first := last + 1
		last += tries
		if tell(&one.Message, at, wrong(step.SimulatedProbe, seen(probes, last, destination))) {
			continue
		}
		if tries > 1 {
			tell(&one.First, at, wrong(step.SimulatedProbe, seen(probes, first, destination)))
		}
	}
	one.Passed = one.Message == ""
	return one
}

// seen has the connections of a probe. Without Pods that could be asked there is no probe.
func seen(probes []probeResult, at int, destination generator.ProbeMode) map[connection]bool {
	if at >= len(probes) {
		return nil
	}
	return probes[at][destination]
}

// tell fills an empty message with what was wrong in a step; false if nothing was.
func tell(message *string, step int, all []string) bool {
	if len(all) == 0 {
		return false
	}
	const most = 12
	if len(all) > most {
		all = append(all[:most], fmt.Sprintf("%d more", len(all)-most))
	}
	if *message == "" {
		*message = fmt.Sprintf("step %d: %s", step+1, strings.Join(all, "; "))
	}
	return true
}

// wrong says which connections are not as expected.
func wrong(expected *probe.Table, seen map[connection]bool) []string {
	var all []string
	for _, key := range expected.Wrapped.Keys() {
		if key.From == key.To && ignoreLoopback {
			continue
		}
		for port, wanted := range expected.Get(key.From, key.To).JobResults {
			// A port that the Pod does not have: nothing was tried.
			if wanted.Combined != probe.ConnectivityAllowed && wanted.Combined != probe.ConnectivityBlocked {
				continue
			}
			connected, tried := seen[connection{from: key.From, to: key.To, port: port}]
			is := probe.ConnectivityCheckFailed
			if connected {
				is = probe.ConnectivityAllowed
			} else if tried {
				is = probe.ConnectivityBlocked
			}
			if is != wanted.Combined {
				all = append(all, fmt.Sprintf("%s to %s %s is %s", key.From, key.To, port, is))
			}
		}
	}
	slices.Sort(all)
	return all
}
