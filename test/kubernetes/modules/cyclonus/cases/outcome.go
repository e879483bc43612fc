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
	// Message has the first connections that were not as they should be.
	Message string `json:"message"`
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
		last += tries
		// Without Pods that could be asked there is no probe.
		var seen map[connection]bool
		if last < len(probes) {
			seen = probes[last][destination]
		}
		if all := wrong(step.SimulatedProbe, seen); len(all) > 0 && one.Message == "" {
			const most = 12
			if len(all) > most {
				all = append(all[:most], fmt.Sprintf("%d more", len(all)-most))
			}
			one.Message = fmt.Sprintf("step %d: %s", at+1, strings.Join(all, "; "))
		}
	}
	one.Passed = one.Message == ""
	return one
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
