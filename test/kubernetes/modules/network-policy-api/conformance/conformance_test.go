// Package conformance is network-policy-api's conformance suite with all its features, as one test binary. The
// cluster is that of KUBECONFIG.
package conformance

import (
	"testing"

	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	api "sigs.k8s.io/network-policy-api/apis/v1beta1"
	"sigs.k8s.io/network-policy-api/conformance/tests"
	"sigs.k8s.io/network-policy-api/conformance/utils/suite"
)

func TestClusterNetworkPolicy(t *testing.T) {
	cluster, err := config.GetConfig()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := client.New(cluster, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := api.Install(objects.Scheme()); err != nil {
		t.Fatal(err)
	}
	pods, err := kubernetes.NewForConfig(cluster)
	if err != nil {
		t.Fatal(err)
	}
	all := suite.New(suite.Options{
		Client:                     objects,
		ClientSet:                  pods,
		KubeConfig:                 *cluster,
		CleanupBaseResources:       true,
		EnableAllSupportedFeatures: true,
	})
	all.Setup(t)
	all.Run(t, tests.ConformanceTests)
}
