use clap::CommandFactory;
use expect_test::{Expect, expect};

use super::{Addresses, CaseArgs, Cli, Command, File, Format, LabVerb, PlayArgs, RunArgs, Target, parse};
use seawall_config::{Config, Hosts, Url};

fn hosts(urls: &[&str]) -> Hosts {
    Hosts::new(urls.iter().map(|url| Url::parse(url).unwrap()).collect()).unwrap()
}

fn accepted(arguments: &str) -> Command {
    parse(arguments.split_whitespace()).unwrap()
}

/// The error's first line; every one of them exits with 2.
fn refused(arguments: &str, expected: Expect) {
    let error = parse(arguments.split_whitespace()).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{arguments}");
    expected.assert_eq(error.to_string().lines().next().unwrap_or_default());
}

#[test]
fn clap_finds_no_contradiction() {
    Cli::command().debug_assert();
}

#[test]
fn run_stands_in_front_of_a_sample_a_host_or_what_a_file_says() {
    let run = |target| Command::Run(RunArgs { target, addresses: Addresses::default() });
    assert_eq!(accepted("seawall run"), run(Target::Sample));
    assert_eq!(accepted("seawall run a.toml"), run(Target::File("a.toml".into())));
    let two = hosts(&["http://a:1", "http://b:2"]);
    assert_eq!(
        accepted("seawall run --upstream http://a:1 --upstream http://b:2"),
        run(Target::Upstreams(two))
    );
}

#[test]
fn addresses_win_over_the_config() {
    let Command::Run(args) = accepted("seawall run --listen 0.0.0.0:80 --admin [::1]:0") else { panic!() };
    let config = args.addresses.over(Config::for_upstreams(hosts(&["http://a:1"])));
    assert_eq!(config.listen, "0.0.0.0:80".parse().unwrap());
    assert_eq!(config.admin.listen, "[::1]:0".parse().unwrap());
    let config = Config::for_upstreams(hosts(&["http://a:1"]));
    assert_eq!(Addresses::default().over(config.clone()), config);
}

#[test]
fn lab_run_takes_seeds_and_a_file_for_json() {
    let args = PlayArgs {
        case: CaseArgs { scenario: "s.toml".into(), config: Vec::new() },
        seeds: None,
        seed: 1,
        html: None,
        json: None,
        csv: None,
        svg: None,
        format: Format::Text,
    };
    assert_eq!(accepted("seawall lab run s.toml"), Command::Lab(LabVerb::Run(args.clone())));
    let seeded = PlayArgs { seeds: Some(5), seed: u64::MAX, json: Some("r.json".into()), ..args };
    assert_eq!(
        accepted("seawall lab run s.toml --seeds 5 --seed 18446744073709551615 --json r.json"),
        Command::Lab(LabVerb::Run(seeded))
    );
}

#[test]
fn what_cannot_be_used_is_refused() {
    refused("seawall", expect!["Example: seawall run --upstream http://127.0.0.1:3000"]);
    refused("seawall lab", expect!["Example: seawall lab demo"]);
    refused("seawall serve", expect!["error: unrecognized subcommand 'serve'"]);
    refused("seawall run a.toml b.toml", expect!["error: unexpected argument 'b.toml' found"]);
    refused(
        "seawall run a.toml --upstream http://a:1",
        expect!["error: the argument '[CONFIG]' cannot be used with '--upstream <URL>'"],
    );
    refused(
        "seawall run --upstream a:1",
        expect![
            "error: invalid value 'a:1' for '--upstream <URL>': `a:1` does not begin with `http://` or `https://`; write `http://a:1`"
        ],
    );
    refused(
        "seawall run --upstream http://a:1 --upstream http://A:1/",
        expect!["error: --upstream: `http://a:1` is listed twice"],
    );
    refused(
        "seawall run --listen 8080",
        expect![
            "error: invalid value '8080' for '--listen <ADDR>': `8080` is not an IP address and a port; write `0.0.0.0:8080` for all networks, `127.0.0.1:8080` for this machine"
        ],
    );
    refused(
        "seawall run --admin 0.0.0.0:9090",
        expect![
            "error: invalid value '0.0.0.0:9090' for '--admin <ADDR>': `0.0.0.0:9090` is not a loopback address, which needs a `token_file`; write `127.0.0.1:9090`"
        ],
    );
    refused("seawall lab run", expect!["error: the following required arguments were not provided:"]);
    refused(
        "seawall lab run s.toml --seeds 0",
        expect!["error: invalid value '0' for '--seeds <N>': 0 is not in 1..=10000"],
    );
    refused(
        "seawall lab run s.toml --seeds 10001",
        expect!["error: invalid value '10001' for '--seeds <N>': 10001 is not in 1..=10000"],
    );
    refused(
        "seawall lab sweep s.toml --vary clients.web.rate=20",
        expect![
            "error: invalid value 'clients.web.rate=20' for '--vary <KEY=A..B:N>': there is no number of values; write it as `clients.web.rate=20..80:7`"
        ],
    );
    refused(
        "seawall check a.toml --lint --seeds 3",
        expect!["error: the argument '--lint' cannot be used with '--seeds <N>'"],
    );
    refused("seawall lab run s.toml --seed -1", expect!["error: unexpected argument '-1' found"]);
}

#[test]
fn a_schema_is_that_of_the_config_or_of_scenarios() {
    assert_eq!(accepted("seawall schema"), Command::Schema(File::Config));
    assert_eq!(accepted("seawall schema scenario"), Command::Schema(File::Scenario));
}

const VERBS: [&str; 13] = [
    "seawall --help",
    "seawall run --help",
    "seawall check --help",
    "seawall schema --help",
    "seawall block --help",
    "seawall admit --help",
    "seawall lab --help",
    "seawall lab run --help",
    "seawall lab list --help",
    "seawall lab demo --help",
    "seawall lab explain --help",
    "seawall lab margin --help",
    "seawall lab sweep --help",
];

#[test]
fn help_begins_with_an_example_and_succeeds() {
    for arguments in VERBS {
        let help = parse(arguments.split_whitespace()).unwrap_err();
        assert_eq!(help.exit_code(), 0);
        assert!(help.to_string().starts_with("Example"), "{help}");
    }
}

/// Each example of the help is a command line that works.
#[test]
fn the_examples_of_the_help_parse() {
    let help = VERBS.map(|arguments| parse(arguments.split_whitespace()).unwrap_err().to_string()).join("\n");
    let examples: Vec<&str> = (help.lines())
        .map(|line| line.trim_start().trim_start_matches("Example: "))
        .filter(|line| line.starts_with("seawall "))
        .map(|line| line.split(" > ").next().unwrap_or_default())
        .map(|line| line.split("    ").next().unwrap_or_default())
        .collect();
    assert_eq!(examples.len(), 21, "{help}");
    for example in examples {
        accepted(example);
    }
}
