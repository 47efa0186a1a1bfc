//! The description of the admin API, held to what it answers.

use serde_json::Value;

use crate::harness::{Answer, Gateway, ask, config, get, origin, quota, token};

/// What a reference leads to; what is none, as it is.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
        None => value,
    }
}

fn is_of_type(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("{other} is not looked at here"),
    }
}

/// What about a value is not as this schema says, if something is.
fn fault(document: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    let schema = resolved(document, schema);
    if let Some(choices) = schema["oneOf"].as_array() {
        let faults: Option<Vec<String>> =
            choices.iter().map(|choice| fault(document, choice, value, at)).collect();
        return faults.map(|faults| faults.join(", or "));
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => vec![kind.as_str().unwrap_or_else(|| panic!("{at}: {schema}"))],
    };
    if !kinds.iter().any(|kind| is_of_type(value, kind)) {
        return Some(format!("{at}: {value} is none of {kinds:?}"));
    }
    if let Value::Array(items) = value {
        let of = |item| fault(document, &schema["items"], item, &format!("{at}[]"));
        return items.iter().find_map(of);
    }
    let object = value.as_object()?;
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let missing = required.into_iter().find(|name| !object.contains_key(*name));
    let of = |(name, value): (&String, &Value)| match (
        &schema["properties"][name],
        &schema["additionalProperties"],
    ) {
        (Value::Null, Value::Bool(false)) => Some(format!("{at}: {name} is not described")),
        (Value::Null, Value::Null) => None,
        (Value::Null, other) => fault(document, other, value, &format!("{at}.{name}")),
        (own, _) => fault(document, own, value, &format!("{at}.{name}")),
    };
    missing.map(|name| format!("{at}: there is no {name}")).or_else(|| object.iter().find_map(of))
}

/// Fails where this operation does not describe its answer.
fn held(document: &Value, path: &str, method: &str, answer: &Answer) {
    let at = format!("{method} {path} {}: {}", answer.status, answer.body);
    let operation = &document["paths"][path][method.to_ascii_lowercase()];
    let described = resolved(document, &operation["responses"][answer.status.to_string()]);
    assert!(described["description"].is_string(), "{at} is not described");
    let Some(contents) = described["content"].as_object() else {
        return assert_eq!(answer.body, "", "{at}: a body");
    };
    let (kind, content) = contents.iter().next().unwrap();
    assert!(answer.field("content-type").starts_with(kind), "{at}: {}", answer.field("content-type"));
    if kind == "application/json" {
        let body = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(fault(document, &content["schema"], &body, "body"), None, "{at}");
    }
}

#[test]
fn every_answer_of_the_admin_plane_is_as_it_is_described() {
    let text = quota(&origin(), "1/h", 9)
        .replace("[route.orders]\n", "health = { every = \"1s\", within = \"1s\" }\n[route.orders]\n");
    let gateway =
        Gateway::start(&[&config("described.toml", &format!("throttle = [{{ rate = \"9/s\" }}]\n{text}"))]);
    let document: Value = serde_json::from_str(&get(&gateway.admin, "/openapi.json", "").body).unwrap();
    let (local, token) = ("host: localhost\r\n", token(&gateway));
    let is = |status: u16, method: &str, path: &str, query: &str, headers: &str, body: &str| {
        let target = path.replace("{route}", "orders") + query;
        let answer = ask(&gateway.admin, method, &target, headers, body);
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.body);
        held(&document, path, method, &answer);
    };
    assert_eq!(gateway.get("/", "").status, 200);
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let method = method.to_ascii_uppercase();
            let reads = method == "GET" || method == "HEAD";
            is(421, &method, path, "", "host: evil.example\r\n", "");
            match reads {
                // The events have no end.
                true if path != "/api/events" => is(200, &method, path, "", local, ""),
                true => {}
                false => {
                    is(401, &method, path, "", local, "");
                    is(400, &method, path, "?nonsense=1", &token, "");
                }
            }
        }
        let target = path.replace("{route}", "orders");
        let other = ask(&gateway.admin, "PATCH", &target, &token, "");
        assert_eq!(other.status, 405, "{path}");
        let mut allowed: Vec<&str> = other.field("allow").split(',').map(str::trim).collect();
        let known = operations.as_object().unwrap().keys().filter(|key| *key != "parameters");
        allowed.sort_unstable();
        assert_eq!(allowed, known.collect::<Vec<_>>(), "{path}");
    }
    let (config, block) = ("/api/config", "/api/block/{route}");
    let toml = format!("content-type: application/toml\r\n{token}");
    is(200, "PUT", config, "", &toml, &text);
    is(422, "PUT", config, "", &toml, "nonsense");
    is(413, "PUT", config, "", &toml, &"#".repeat((1 << 20) + 1));
    is(200, "PUT", block, "?why=test", &token, "");
    is(200, "GET", "/api/state", "", local, "");
    is(200, "DELETE", block, "", &token, "");
    let none = ask(&gateway.admin, "PUT", "/api/block/none", &token, "");
    held(&document, block, "PUT", &none);
    is(202, "PUT", "/api/drain", "", &token, "");
    gateway.await_log("no longer ready");
    is(503, "GET", "/readyz", "", local, "");
    is(409, "PUT", "/api/drain", "", &token, "");
}
