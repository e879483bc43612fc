// Command cases runs cyclonus' test cases on a cluster: its generator makes them, its interpreter applies the
// policies and changes, and its matcher says what must be allowed. Two things differ from its own command:
//
//   - a Pod's connections are one exec of the connector, not an exec for each
//   - a line of JSON for each case is added to a file as soon as it has ended; all else that it prints is cyclonus'
//
// Nothing is excluded by tag. What a Pod sends to itself is not judged.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/mattfenwick/cyclonus/pkg/connectivity"
	"github.com/mattfenwick/cyclonus/pkg/connectivity/probe"
	"github.com/mattfenwick/cyclonus/pkg/generator"
	"github.com/mattfenwick/cyclonus/pkg/kube"
	"github.com/mattfenwick/cyclonus/pkg/worker"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

var (
	namespaces = []string{"x", "y", "z"}
	pods       = []string{"a", "b", "c"}
	ports      = []int{80, 81}
	protocols  = []v1.Protocol{v1.ProtocolTCP, v1.ProtocolUDP, v1.ProtocolSCTP}
)

// cyclonus' matcher judges a Pod's traffic to itself like any other; NetworkPolicy does not concern it.
const ignoreLoopback = true

// outcome is what a case came to.
type outcome struct {
	Name    string  `json:"name"`
	Passed  bool    `json:"passed"`
	Seconds float64 `json:"seconds"`
	// Probes beyond one for each step: those before them were wrong.
	Repeated int `json:"repeated"`
	// The first connections that were not as they should be.
	Message string `json:"message"`
}

func main() {
	config := flag.String("kubeconfig", "", "of an administrator; empty: only the names of the cases are printed")
	destination := flag.String("destination", "pod-ip", strings.Join(generator.AllProbeModes, ", "))
	registry := flag.String("registry", "", "of the image of agnhost, which has the connector as /worker")
	file := flag.String("results", "/dev/stdout", "where a line of JSON is added for each case that has ended")
	wanted := flag.String("cases", "", "a regular expression over the names of the cases")
	flag.Parse()
	chosen, err := regexp.Compile(*wanted)
	check(err)
	mode, err := generator.ParseProbeMode(*destination)
	check(err)
	if *config == "" {
		for at, one := range cases("10.0.0.1") {
			fmt.Println(name(at, one))
		}
		return
	}
	cluster, err := connect(*config)
	check(err)
	results, err := os.OpenFile(*file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	check(err)
	resources, err := probe.NewDefaultResources(cluster, namespaces, pods, ports, protocols, nil, 120, false, *registry)
	check(err)
	interpreter := connectivity.NewInterpreter(cluster, resources, &connectivity.InterpreterConfig{
		ResetClusterBeforeTestCase:       true,
		VerifyClusterStateBeforeTestCase: true,
		KubeProbeRetries:                 1,
		PerturbationWaitSeconds:          1,
		BatchJobs:                        true,
		IgnoreLoopback:                   ignoreLoopback,
	})
	last, err := resources.GetPod("z", "c")
	check(err)
	for at, one := range cases(last.IP) {
		if !chosen.MatchString(name(at, one)) {
			continue
		}
		for _, step := range one.Steps {
			step.Probe.Mode = mode
		}
		start := time.Now()
		result := interpreter.ExecuteTestCase(one)
		check(json.NewEncoder(results).Encode(judge(name(at, one), result, time.Since(start))))
	}
	for _, namespace := range namespaces {
		check(cluster.DeleteNamespace(namespace))
	}
}

func cases(podIP string) []*generator.TestCase {
	return generator.NewTestCaseGenerator(true, podIP, namespaces, nil, nil).GenerateTestCases()
}

// name is the same in every run; descriptions alone occur more than once.
func name(at int, one *generator.TestCase) string {
	return fmt.Sprintf("%03d %s", at+1, strings.Join(strings.Fields(one.Description), " "))
}

func connect(file string) (*services, error) {
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return nil, err
	}
	// Five requests a second are the default.
	config.QPS, config.Burst = 200, 200
	client, err := kubernetes.NewForConfig(config)
	return &services{&kube.Kubernetes{ClientSet: client, RestConfig: config}}, err
}

// services knows the Services' addresses: cyclonus forgets that of a Pod that it creates or labels anew.
type services struct{ *kube.Kubernetes }

// ExecuteRemoteCommand runs the connector, with the addresses that are missing.
func (s *services) ExecuteRemoteCommand(namespace, pod, container string, command []string) (string, string, error, error) {
	var batch worker.Batch
	if err := json.Unmarshal([]byte(command[len(command)-1]), &batch); err != nil {
		return "", "", nil, err
	}
	for _, wanted := range batch.Requests {
		if wanted.Host != "" {
			continue
		}
		// From: namespace, Pod, container; to: namespace, Pod, container; protocol, port.
		parts := strings.Split(wanted.Key, "/")
		service, err := s.GetService(parts[3], fmt.Sprintf("s-%s-%s", parts[3], parts[4]))
		if err != nil {
			return "", "", nil, err
		}
		wanted.Host = service.Spec.ClusterIP
	}
	jobs, err := json.Marshal(batch)
	if err != nil {
		return "", "", nil, err
	}
	command = append(command[:len(command)-1:len(command)-1], string(jobs))
	return s.Kubernetes.ExecuteRemoteCommand(namespace, pod, container, command)
}

func judge(name string, result *connectivity.Result, took time.Duration) outcome {
	one := outcome{Name: name, Passed: result.Err == nil && result.Passed(ignoreLoopback), Seconds: took.Seconds()}
	if result.Err != nil {
		one.Message = result.Err.Error()
	}
	for at, step := range result.Steps {
		one.Repeated += len(step.KubeProbes) - 1
		if !step.Passed(ignoreLoopback) && one.Message == "" {
			one.Message = fmt.Sprintf("step %d: %s", at+1, wrong(step.LastComparison()))
		}
	}
	return one
}

func wrong(table *connectivity.ComparisonTable) string {
	var all []string
	for _, key := range table.Wrapped.Keys() {
		if key.From == key.To && ignoreLoopback {
			continue
		}
		item := table.Get(key.From, key.To)
		for connection, seen := range item.Kube.JobResults {
			expected := item.Simulated.JobResults[connection]
			if expected == nil || seen.Combined != expected.Combined {
				all = append(all, fmt.Sprintf("%s to %s %s is %s", key.From, key.To, connection, seen.Combined))
			}
		}
	}
	const most = 12
	if len(all) > most {
		all = append(all[:most], fmt.Sprintf("%d more", len(all)-most))
	}
	return strings.Join(all, "; ")
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
