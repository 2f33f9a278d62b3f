"""Publishes with each quality and hears one command, with Eclipse Paho's client for Python.

Says in one JSON object what came of it. Needs testdata/interop/requirements.txt only.
"""

import argparse
import json
import ssl
import threading

import paho.mqtt.client as mqtt


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--version", type=int, choices=(4, 5), required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--token-file")
    parser.add_argument("--ca")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    arguments = parser.parse_args()
    device = arguments.device

    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, client_id=device, protocol=mqtt.MQTTProtocolVersion(arguments.version)
    )
    if arguments.token_file:
        with open(arguments.token_file, encoding="ascii") as file:
            client.username_pw_set(device, file.read().strip())
    if arguments.ca:
        context = ssl.create_default_context(cafile=arguments.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if arguments.cert:
            context.load_cert_chain(arguments.cert, arguments.key)
        client.tls_set_context(context)

    said = {"connected": None, "granted": None, "acknowledged": [], "heard": None}
    subscribed, heard = threading.Event(), threading.Event()

    def on_connect(client, _data, flags, reason, _properties):
        said["connected"] = [flags.session_present, reason.value]
        if reason.is_failure:
            subscribed.set()
            heard.set()
        else:
            client.subscribe([(f"stonechat/v1/{device}/down/#", 1), ("stonechat/v1/#", 1)])

    def on_subscribe(_client, _data, _id, reasons, _properties):
        said["granted"] = [reason.value for reason in reasons]
        subscribed.set()

    def on_message(_client, _data, message):
        said["heard"] = [message.topic, message.payload.decode(), message.qos]
        heard.set()

    client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
    client.connect("localhost", arguments.port, keepalive=30)
    client.loop_start()
    subscribed.wait(20)
    if said["granted"]:
        for quality in (0, 1, 2):
            text = json.dumps({"temperature": 20.5 + quality})
            sent = client.publish(f"stonechat/v1/{device}/up/flat-json", text, qos=quality)
            sent.wait_for_publish(20)
            said["acknowledged"].append(sent.is_published())
    heard.wait(20)
    # Lets the acknowledgement out.
    client.disconnect()
    client.loop_stop()
    print(json.dumps(said))


main()
