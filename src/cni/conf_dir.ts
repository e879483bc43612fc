/** Where container runtimes look for network configurations by default. */
export const CNI_CONF_DIR = "/etc/cni/net.d";
