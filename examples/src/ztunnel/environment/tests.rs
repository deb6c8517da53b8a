use super::*;

/// What the demo sets: the least that works.
const LEAST: [(&str, &str); 6] = [
    ("PROXY_MODE", "dedicated"),
    ("PROXY_WORKLOAD_INFO", "shop/cart-1/cart"),
    ("XDS_ADDRESS", ""),
    ("LOCAL_XDS_PATH", "/etc/mesh.yaml"),
    ("CA_ADDRESS", ""),
    ("FAKE_CA", "true"),
];

fn parse(variables: &[(&str, &str)]) -> Result<Environment, EnvironmentError> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Environment::parse(&variables, NonZeroUsize::new(8).unwrap())
}

/// The least, with some variables changed; `None` removes one.
fn with(changes: &[(&'static str, Option<&'static str>)]) -> Result<Environment, EnvironmentError> {
    let mut variables: Vec<_> = LEAST.to_vec();
    for (name, value) in changes {
        variables.retain(|(existing, _)| existing != name);
        variables.extend(value.map(|value| (*name, value)));
    }
    parse(&variables)
}

/// The variable that an error tells to change.
fn variable_of(error: &EnvironmentError) -> &'static str {
    match error {
        EnvironmentError::Both { first, .. } => first,
        EnvironmentError::Invalid { variable, .. }
        | EnvironmentError::Missing { variable, .. }
        | EnvironmentError::Unavailable { variable, .. } => variable,
    }
}

#[test]
fn the_least_gets_the_defaults() {
    let environment = parse(&LEAST).unwrap();
    assert_eq!(environment.workload.to_string(), "cart.shop (cart-1)");
    assert_eq!(environment.local, LocalSource::File("/etc/mesh.yaml".into()));
    assert_eq!(environment.node_name, None);
    assert_eq!(environment.missing_policy, MissingPolicy::Deny);
    assert!(environment.ipv6);
    let ports = (environment.admin_port, environment.stats_port, environment.readiness_port);
    assert_eq!(ports, (15000, 15020, 15021));
    assert_eq!(environment.istio_version, "unknown");
    assert_eq!(environment.log_levels, LogLevels::default());
    assert_eq!(environment.log_format, LogFormat::Plain);
    assert_eq!(environment.warnings, [Warning::DevelopmentCa]);
    let view = environment.view();
    assert_eq!(view.workers.get(), 2);
    assert_eq!(view.drain_deadline, Duration::from_secs(5));
    assert_eq!(view.packet_mark, None);
    assert_eq!(view.original_source, None);
    assert_eq!(&*view.cluster_id, "Kubernetes");
    assert_eq!(view.keepalive, Some(Keepalive::default()));
    assert_eq!((view.pool_max_streams.get(), view.pool_idle_timeout), (100, Duration::from_secs(300)));
    assert_eq!(view.half_open_timeout, Some(Duration::from_secs(3600)));
    assert_eq!((view.max_connections, view.max_tunnels), (MAX_PER_WORKER, MAX_PER_WORKER));
    assert!(view.baggage && !view.socks5 && !view.user_timeout);
}

#[test]
fn every_variable_takes_effect() {
    let environment = with(&[
        ("CLUSTER_ID", Some("c1")),
        ("CONNECTION_TERMINATION_DEADLINE", Some("7s")),
        ("ENABLE_ORIG_SRC", Some("true")),
        ("ENABLE_RESPONSE_BAGGAGE", Some("false")),
        ("HALF_OPEN_TIMEOUT", Some("10m")),
        ("HBONE_MEMORY_LIMIT", Some("512Mi")),
        ("IPV6_ENABLED", Some("false")),
        ("ISTIO_META_CLUSTER_ID", Some("c2")),
        ("ISTIO_META_ISTIO_VERSION", Some("1.30.0")),
        ("KEEPALIVE_INTERVAL", Some("2s")),
        ("KEEPALIVE_RETRIES", Some("3")),
        ("KEEPALIVE_TIME", Some("1s")),
        ("LOCAL_XDS", Some("workloads: []")),
        ("LOCAL_XDS_PATH", None),
        ("LOG_FORMAT", Some("json")),
        ("MAX_CONNECTIONS_PER_WORKER", Some("1000")),
        ("MAX_TUNNELS_PER_WORKER", Some("500")),
        ("MISSING_POLICY", Some("skip")),
        ("NETWORK", Some("net1")),
        ("NODE_NAME", Some("node1")),
        ("PACKET_MARK", Some("1337")),
        ("POOL_MAX_STREAMS_PER_CONNECTION", Some("10")),
        ("POOL_UNUSED_RELEASE_TIMEOUT", Some("1m")),
        ("RUST_LOG", Some("debug,access=off")),
        ("UNSTABLE_ENABLE_SOCKS5", Some("true")),
        ("USER_TIMEOUT_ENABLED", Some("true")),
        ("ZTUNNEL_WORKER_THREADS", Some("4")),
    ])
    .unwrap();
    assert_eq!(environment.local, LocalSource::Text("workloads: []".to_owned()));
    assert_eq!(environment.node_name.as_deref(), Some("node1"));
    assert_eq!(environment.missing_policy, MissingPolicy::Skip);
    assert!(!environment.ipv6);
    assert_eq!(environment.istio_version, "1.30.0");
    assert_eq!(environment.log_levels.to_string(), "access=off,debug");
    assert_eq!(environment.log_format, LogFormat::Json);
    assert_eq!(environment.warnings, [Warning::DevelopmentCa]);
    let shown = serde_json::to_value(environment.view()).unwrap();
    for (pointer, value) in [
        ("/clusterId", "\"c2\""),
        ("/selfTerminationDeadline/secs", "7"),
        ("/requireOriginalSource", "true"),
        ("/enableEnhancedBaggage", "false"),
        ("/inboundAddr", "\"0.0.0.0:15008\""),
        ("/socketConfig/keepaliveInterval/secs", "2"),
        ("/socketConfig/keepaliveRetries", "3"),
        ("/socketConfig/keepaliveTime/secs", "1"),
        ("/socketConfig/userTimeoutEnabled", "true"),
        ("/halfOpenTimeout/secs", "600"),
        ("/hboneMemoryLimit", "536870912"),
        ("/maxConnectionsPerWorker", "1000"),
        ("/maxTunnelsPerWorker", "500"),
        ("/network", "\"net1\""),
        ("/localNode", "\"node1\""),
        ("/packetMark", "1337"),
        ("/poolMaxStreamsPerConn", "10"),
        ("/poolUnusedReleaseTimeout/secs", "60"),
        ("/socks5Addr/Localhost/1", "15080"),
        ("/numWorkerThreads", "4"),
        ("/proxyWorkloadInformation/serviceAccount", "\"cart\""),
    ] {
        assert_eq!(shown.pointer(pointer).unwrap().to_string(), value, "{pointer}");
    }
}

#[test]
fn a_half_open_connection_may_live_for_ever() {
    let environment = with(&[("HALF_OPEN_TIMEOUT", Some("0s"))]).unwrap();
    assert_eq!(environment.view().half_open_timeout, None);
}

// telemetry#52, telemetry#72
#[test]
fn wrong_values_are_named_with_their_variable_in_one_line() {
    for (variable, value) in [
        ("PROXY_MODE", "x"),
        ("PROXY_WORKLOAD_INFO", "shop/cart"),
        ("PROXY_WORKLOAD_INFO", "shop//cart"),
        ("PROXY_WORKLOAD_INFO", "a/b/c/d"),
        ("PACKET_MARK", "0x539"),
        ("ENABLE_ORIG_SRC", "yes"),
        ("UNSTABLE_ENABLE_SOCKS5", "1"),
        ("IPV6_ENABLED", "TRUE"),
        ("KEEPALIVE_ENABLED", "yes"),
        ("KEEPALIVE_TIME", "180"),
        ("KEEPALIVE_INTERVAL", "soon"),
        ("KEEPALIVE_RETRIES", "-1"),
        ("USER_TIMEOUT_ENABLED", "no"),
        ("FAKE_CA", "maybe"),
        ("POOL_MAX_STREAMS_PER_CONNECTION", "0"),
        ("POOL_UNUSED_RELEASE_TIMEOUT", "5"),
        ("CONNECTION_TERMINATION_DEADLINE", "5\nx"),
        ("TERMINATION_GRACE_PERIOD_SECONDS", "30s"),
        ("ZTUNNEL_WORKER_THREADS", "0%"),
        ("ZTUNNEL_WORKER_THREADS", "101%"),
        ("ZTUNNEL_WORKER_THREADS", "x"),
        ("ZTUNNEL_RESOURCE_CPU_LIMIT", "much"),
        ("ZTUNNEL_RESOURCE_CPU_REQUEST", "0"),
        ("ZTUNNEL_CPU_LIMIT", "1.5"),
        ("ENABLE_RESPONSE_BAGGAGE", "on"),
        ("RUST_LOG", "loud"),
        ("LOG_FORMAT", "xml"),
        ("MISSING_POLICY", "allow"),
        ("HALF_OPEN_TIMEOUT", "1"),
        ("MAX_CONNECTIONS_PER_WORKER", "0"),
        ("MAX_TUNNELS_PER_WORKER", "many"),
        ("HBONE_MEMORY_LIMIT", "0"),
        ("HBONE_MEMORY_LIMIT", "1G"),
        ("PROXY_CONFIG", "concurrency: many"),
        ("PROXY_CONFIG", "statsPort: 70000"),
        ("PROXY_CONFIG", "[]"),
    ] {
        let error = with(&[(variable, Some(value))]).unwrap_err();
        assert!(matches!(error, EnvironmentError::Invalid { .. }), "{error}");
        assert_eq!(variable_of(&error), variable);
        let line = error.to_string();
        assert!(line.contains(&format!("{value:?}")) && !line.contains('\n'), "{line}");
    }
}

#[test]
fn what_is_not_there_yet_is_refused_with_what_to_set_instead() {
    for (variable, value, instead) in [
        ("PROXY_MODE", Some("shared"), "PROXY_MODE=dedicated"),
        ("PROXY_MODE", None, "PROXY_MODE=dedicated"),
        ("PROXY_MODE", Some(""), "PROXY_MODE=dedicated"),
        ("PROXY_WORKLOAD_INFO", None, "namespace/name/service-account"),
        ("XDS_ADDRESS", Some("istiod.istio-system.svc:15012"), "LOCAL_XDS_PATH"),
        ("XDS_ADDRESS", None, "LOCAL_XDS_PATH"),
        ("LOCAL_XDS_PATH", None, "LOCAL_XDS"),
        ("FAKE_CA", None, "FAKE_CA=true"),
    ] {
        let error = with(&[(variable, value)]).unwrap_err().to_string();
        assert!(error.contains(variable) && error.contains(instead), "{error}");
        assert!(!error.contains('\n'));
    }
}

// identity#81
#[test]
fn the_development_authority_needs_an_empty_address() {
    for address in [None, Some("istiod:15012")] {
        let error = with(&[("CA_ADDRESS", address)]).unwrap_err();
        assert_eq!(variable_of(&error), "FAKE_CA", "{address:?}");
    }
}

#[test]
fn what_an_authority_is_called_with_has_an_effect_if_there_is_one() {
    let changes = [
        ("FAKE_CA", None),
        ("CA_ADDRESS", Some("istiod:15012")),
        ("AUTH_TOKEN", Some("secret")),
        ("CA_HEADER_A", Some("secret")),
        ("CA_ROOT_CA", Some("SYSTEM")),
    ];
    let environment = with(&changes).unwrap();
    assert_eq!(environment.warnings, []);
    let shown = serde_json::to_value(environment.view()).unwrap();
    assert_eq!((&shown["caAddress"], &shown["fakeCa"]), (&"istiod:15012".into(), &false.into()));
    assert!(!format!("{environment:?} {shown}").contains("secret"));
}

#[test]
fn development_authority_is_refused_inside_kubernetes() {
    let error = with(&[("KUBERNETES_SERVICE_HOST", Some("192.0.2.1"))]).unwrap_err();
    assert_eq!(variable_of(&error), "FAKE_CA");
}

// telemetry#52, control-plane#61
#[test]
fn both_local_sources_exclude_each_other() {
    let error = with(&[("LOCAL_XDS", Some("workloads: []"))]).unwrap_err();
    assert_eq!(error, EnvironmentError::Both { first: "LOCAL_XDS_PATH", second: "LOCAL_XDS" });
}

// telemetry#55, telemetry#71
#[test]
fn proxy_config_sets_threads_and_ports_and_may_contain_anything_else() {
    let config =
        "concurrency: 3\nstatsPort: 16020\nproxyAdminPort: 16000\nproxyMetadata: {A: b}\ntracing: {}";
    let environment = with(&[("PROXY_CONFIG", Some(config))]).unwrap();
    assert_eq!((environment.stats_port, environment.admin_port), (16020, 16000));
    assert_eq!(environment.view().workers.get(), 3);
    assert_eq!(with(&[("PROXY_CONFIG", Some("concurrency: 3"))]).unwrap().view().workers.get(), 3);
    for empty in ["", "{}", "# nothing"] {
        assert_eq!(with(&[("PROXY_CONFIG", Some(empty))]).unwrap().view().workers.get(), 2);
    }
    let threads = [("PROXY_CONFIG", Some("concurrency: 3")), ("ZTUNNEL_WORKER_THREADS", Some("1"))];
    assert_eq!(with(&threads).unwrap().view().workers.get(), 1);
}

#[test]
fn keepalive_can_be_switched_off() {
    assert_eq!(with(&[("KEEPALIVE_ENABLED", Some("false"))]).unwrap().view().keepalive, None);
}

#[test]
fn known_variables_without_effect_are_told_once_each() {
    let environment = with(&[
        ("AUTH_TOKEN", Some("secret")),
        ("INSTANCE_IP", Some("192.0.2.1")),
        ("ENABLE_PROXY", Some("true")),
        ("ISTIO_META_DNS_CAPTURE", Some("true")),
        ("ISTIO_META_FOO", Some("x")),
        ("XDS_HEADER_a", Some("secret")),
        ("SOMETHING_ELSE", Some("x")),
        ("INPOD_ENABLED", Some("true")),
    ])
    .unwrap();
    let told: Vec<_> = environment.warnings.iter().map(Warning::to_string).collect();
    assert_eq!(told.len(), 6, "{told:?}");
    for variable in
        ["AUTH_TOKEN", "INSTANCE_IP", "ISTIO_META_DNS_CAPTURE", "ISTIO_META_FOO", "XDS_HEADER_a", "FAKE_CA"]
    {
        assert_eq!(told.iter().filter(|line| line.starts_with(variable)).count(), 1, "{variable}");
    }
    assert!(!told.concat().contains("secret"));
}

#[test]
fn what_is_done_anyway_is_not_told() {
    let settings = [
        ("AUTHZ_POLICY_INFO_LOGGING", Some("false")),
        ("ENABLE_PROXY", Some("true")),
        ("ISTIO_META_DNS_CAPTURE", Some("false")),
        ("TLS12_ENABLED", Some("false")),
        ("XDS_ON_DEMAND", Some("false")),
    ];
    assert_eq!(with(&settings).unwrap().warnings, [Warning::DevelopmentCa]);
}
