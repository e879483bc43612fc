package main

import (
	"time"

	"github.com/mattfenwick/cyclonus/pkg/connectivity"
	"github.com/mattfenwick/cyclonus/pkg/connectivity/probe"
	"github.com/mattfenwick/cyclonus/pkg/generator"
	"github.com/mattfenwick/cyclonus/pkg/kube"
)

// cyclonus' matcher judges a Pod's traffic to itself like any other; NetworkPolicy does not concern it.
const ignoreLoopback = true

// runner has cyclonus' Pods in a cluster, and runs cases on them.
type runner struct {
	prober       *prober
	resources    *probe.Resources
	interpreter  *connectivity.Interpreter
	destinations []generator.ProbeMode
}

// newRunner makes the Pods and waits until they run.
func newRunner(cluster kube.IKubernetes, destinations []generator.ProbeMode, registry string) (*runner, error) {
	prober := newProber(cluster, destinations)
	resources, err := probe.NewDefaultResources(prober, namespaces, pods, ports, protocols, nil, 120, false, registry)
	if err != nil {
		return nil, err
	}
	interpreter := connectivity.NewInterpreter(prober, resources, &connectivity.InterpreterConfig{
		ResetClusterBeforeTestCase:       true,
		VerifyClusterStateBeforeTestCase: true,
		KubeProbeRetries:                 1,
		PerturbationWaitSeconds:          1,
		BatchJobs:                        true,
		IgnoreLoopback:                   ignoreLoopback,
	})
	return &runner{prober, resources, interpreter, destinations}, nil
}

// run returns an outcome for each destination.
func (r *runner) run(name string, one *generator.TestCase) []outcome {
	for _, step := range one.Steps {
		// The prober makes the other destinations of it.
		step.Probe.Mode = generator.ProbeModePodIP
	}
	r.prober.probes = nil
	start := time.Now()
	result := r.interpreter.ExecuteTestCase(one)
	seconds := time.Since(start).Seconds()
	var outcomes []outcome
	for _, destination := range r.destinations {
		outcome := judge(destination, result, r.prober.probes)
		outcome.Name, outcome.Seconds = name, seconds
		outcomes = append(outcomes, outcome)
	}
	return outcomes
}
