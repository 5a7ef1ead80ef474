"""Subscribes to `forecasts` and `anomalies` and prints what is worth acting on.

Run: pip install confluent-kafka; python examples/read-forecasts.py [host:port]
"""

import json
import sys

from confluent_kafka import Consumer

consumer = Consumer(
    {
        "bootstrap.servers": sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092",
        "group.id": "read-forecasts-py",
        "auto.offset.reset": "latest",
    }
)
consumer.subscribe(["forecasts", "anomalies"])

try:
    while True:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error():
            print(message.error(), file=sys.stderr)
            continue
        record = json.loads(message.value())
        if message.topic() == "forecasts":
            far = record["points"][-1]
            band = next(i for i in far["intervals"] if i["level"] == 95)
            print(
                f"forecast {record['entity']} {record['name']} in {far['horizonMs'] / 1000:.0f} s: {far['value']:.1f} "
                f"({band['lower']:.1f} to {band['upper']:.1f}), confidence {far['confidence']:.2f}",
                flush=True,
            )
        elif record["state"] != "update":
            print(f"anomaly {record['state']} {record['severity']} {record['entity']} {record['name']}: {record['reason']}", flush=True)
except KeyboardInterrupt:
    pass
finally:
    consumer.close()
