package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/mattfenwick/cyclonus/pkg/generator"
	"github.com/mattfenwick/cyclonus/pkg/kube"
	"github.com/mattfenwick/cyclonus/pkg/worker"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fakeCluster has Pods and Services; every connection is made but those that fail says.
type fakeCluster struct {
	*kube.MockKubernetes
	fails func(from, host string, port int) bool
	execs int
}

func (f *fakeCluster) CreateService(service *v1.Service) (*v1.Service, error) {
	service.Spec.ClusterIP = "10.96.1." + service.Name
	return f.MockKubernetes.CreateService(service)
}

func (f *fakeCluster) ExecuteRemoteCommand(namespace, pod, _ string, command []string) (string, string, error, error) {
	f.execs++
	var batch worker.Batch
	if err := json.Unmarshal([]byte(command[len(command)-1]), &batch); err != nil {
		return "", "", nil, err
	}
	results := make([]worker.Result, len(batch.Requests))
	for at, request := range batch.Requests {
		results[at].Request = request
		if f.fails(namespace+"/"+pod, request.Host, request.Port) {
			results[at].Error = "timed out"
		}
	}
	text, err := json.Marshal(results)
	return string(text), "", nil, err
}

var everyDestination = []generator.ProbeMode{
	generator.ProbeModePodIP, generator.ProbeModeServiceIP, generator.ProbeModeServiceName,
}

func run(t *testing.T, fails func(from, host string, port int) bool, steps ...*generator.TestStep) (map[generator.ProbeMode]outcome, *fakeCluster) {
	t.Helper()
	cluster := &fakeCluster{MockKubernetes: kube.NewMockKubernetes(1), fails: fails}
	runner, err := newRunner(cluster, everyDestination, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[generator.ProbeMode]outcome{}
	for _, one := range runner.run("001 a case", generator.NewTestCase("a case", nil, steps...)) {
		outcomes[one.Destination] = one
	}
	return outcomes, cluster
}

func allowAll() *generator.TestStep { return generator.NewTestStep(generator.ProbeAllAvailable) }

func TestOneCommandOfAPodTriesEveryDestination(t *testing.T) {
	hosts := map[string]bool{}
	outcomes, cluster := run(t, func(from, host string, port int) bool {
		if from == "x/a" && port == 80 {
			hosts[host] = true
		}
		return false
	}, allowAll())
	for _, destination := range everyDestination {
		if one := outcomes[destination]; !one.Passed || one.Message != "" || one.Repeated != 0 {
			t.Errorf("%s: %+v", destination, one)
		}
	}
	if pods := 9; cluster.execs != pods || len(hosts) != 3*pods {
		t.Errorf("%d commands to %d hosts", cluster.execs, len(hosts))
	}
	for _, host := range []string{"10.96.1.s-y-b", "s-y-b.y.svc.cluster.local"} {
		if !hosts[host] {
			t.Errorf("nothing connected to %s", host)
		}
	}
}

func TestOneDestinationFailsByItself(t *testing.T) {
	outcomes, _ := run(t, func(from, host string, port int) bool {
		return from == "z/c" && host == "10.96.1.s-x-a" && port == 81
	}, allowAll(), allowAll())
	for _, destination := range everyDestination {
		one := outcomes[destination]
		if failed := destination == generator.ProbeModeServiceIP; one.Passed == failed {
			t.Errorf("%s: %+v", destination, one)
		}
		if one.Repeated != 2 {
			t.Errorf("%s: a probe that differs was repeated %d times in two steps", destination, one.Repeated)
		}
	}
	if message := outcomes[generator.ProbeModeServiceIP].Message; !strings.Contains(message, "step 1: z/c to x/a SCTP/81 is blocked; z/c to x/a TCP/81 is blocked") {
		t.Error(message)
	}
}

func TestTheSecondTryCounts(t *testing.T) {
	tries := map[string]int{}
	outcomes, cluster := run(t, func(from, host string, port int) bool {
		if from != "x/a" || host != "s-y-a.y.svc.cluster.local" || port != 80 {
			return false
		}
		tries[from]++
		return tries[from] <= len(protocols)
	}, allowAll())
	for destination, one := range outcomes {
		if !one.Passed || one.Repeated != 1 || one.Message != "" {
			t.Errorf("%s: %+v", destination, one)
		}
		first := ""
		if destination == generator.ProbeModeServiceName {
			first = "step 1: x/a to y/a SCTP/80 is blocked; x/a to y/a TCP/80 is blocked; x/a to y/a UDP/80 is blocked"
		}
		if one.First != first {
			t.Errorf("%s: the first probe: %s", destination, one.First)
		}
	}
	if cluster.execs != 18 {
		t.Errorf("%d commands", cluster.execs)
	}
}

func TestAConnectionThatAPolicyDeniesFails(t *testing.T) {
	deny := func() *generator.TestStep {
		policy := generator.BuildPolicy(generator.SetDescription("deny"), generator.SetRules(true, nil), generator.SetRules(false, nil)).NetworkPolicy()
		return generator.NewTestStep(generator.ProbeAllAvailable, generator.CreatePolicy(policy))
	}
	outcomes, _ := run(t, func(string, string, int) bool { return false }, deny())
	for destination, one := range outcomes {
		if one.Passed || !strings.Contains(one.Message, "is allowed") {
			t.Errorf("%s: %+v", destination, one)
		}
	}
}

func TestACommandThatFailsIsNoBlockedConnection(t *testing.T) {
	outcomes, _ := run(t, func(string, string, int) bool { return true }, allowAll())
	for destination, one := range outcomes {
		if one.Passed {
			t.Errorf("%s: %+v", destination, one)
		}
	}
	probes := newProber(&broken{kube.NewMockKubernetes(1)}, everyDestination)
	jobs, _ := json.Marshal(worker.Batch{Requests: []*worker.Request{{Key: "x/a/c/x/b/c/TCP/80", Host: "10.244.0.1"}}})
	if _, _, _, err := probes.ExecuteRemoteCommand("x", "a", "c", []string{"/worker", string(jobs)}); err == nil {
		t.Error("the failure is not told")
	}
	if len(probes.probes) != 1 || len(probes.probes[0]) != 0 {
		t.Errorf("%+v", probes.probes)
	}
}

type broken struct{ *kube.MockKubernetes }

func (b *broken) GetService(string, string) (*v1.Service, error) {
	return &v1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: v1.ServiceSpec{ClusterIP: "10.96.0.1"}}, nil
}

func (b *broken) ExecuteRemoteCommand(string, string, string, []string) (string, string, error, error) {
	return "", "", nil, fmt.Errorf("no such container")
}

func TestAServiceThatIsMadeAnewHasItsNewAddress(t *testing.T) {
	cluster := &fakeCluster{MockKubernetes: kube.NewMockKubernetes(1)}
	if _, err := cluster.CreateNamespace(&v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x"}}); err != nil {
		t.Fatal(err)
	}
	probes := newProber(cluster, everyDestination)
	service := func(address string) *v1.Service {
		return &v1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s-x-d", Namespace: "x"}, Spec: v1.ServiceSpec{ClusterIP: address}}
	}
	for _, address := range []string{"10.96.0.7", "10.96.0.8"} {
		if _, err := probes.CreateService(service("")); err != nil {
			t.Fatal(err)
		}
		cluster.Namespaces["x"].Services["s-x-d"].Spec.ClusterIP = address
		if got, err := probes.serviceAddress("x", "s-x-d"); err != nil || got != address {
			t.Errorf("expected %s, got %s, %v", address, got, err)
		}
		if err := probes.DeleteService("x", "s-x-d"); err != nil {
			t.Fatal(err)
		}
	}
}
