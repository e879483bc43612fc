// Command cases runs cyclonus' test cases on a cluster: its generator makes them, its interpreter applies the
// policies and changes, and its matcher says what must be allowed. Three things differ from its own command:
//
//   - a Pod's connections are one exec of the connector, not an exec for each
//   - in one run Pods connect to several destinations: each other's addresses, Services and the Services' names
//   - a line of JSON for each case and destination is added to a file as soon as the case has ended; all else that it
//     prints is cyclonus'
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

	"github.com/mattfenwick/cyclonus/pkg/generator"
	"github.com/mattfenwick/cyclonus/pkg/kube"
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

func main() {
	config := flag.String("kubeconfig", "", "of an administrator; empty: only the names of the cases are printed")
	wantedDestinations := flag.String("destinations", "pod-ip", "some of "+strings.Join(generator.AllProbeModes, ","))
	registry := flag.String("registry", "", "of the image of agnhost, which has the connector as /worker")
	file := flag.String("results", "/dev/stdout", "where a line of JSON is added for each case that has ended")
	wanted := flag.String("cases", "", "a regular expression over the names of the cases")
	flag.Parse()
	chosen, err := regexp.Compile(*wanted)
	check(err)
	var destinations []generator.ProbeMode
	for _, word := range strings.Split(*wantedDestinations, ",") {
		destination, err := generator.ParseProbeMode(word)
		check(err)
		destinations = append(destinations, destination)
	}
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
	runner, err := newRunner(cluster, destinations, *registry)
	check(err)
	last, err := runner.resources.GetPod("z", "c")
	check(err)
	for at, one := range cases(last.IP) {
		if !chosen.MatchString(name(at, one)) {
			continue
		}
		for _, outcome := range runner.run(name(at, one), one) {
			check(json.NewEncoder(results).Encode(outcome))
		}
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

func connect(file string) (kube.IKubernetes, error) {
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return nil, err
	}
	// Five requests a second are the default.
	config.QPS, config.Burst = 200, 200
	client, err := kubernetes.NewForConfig(config)
	return &kube.Kubernetes{ClientSet: client, RestConfig: config}, err
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
