"""Produces one metric to the topic `metrics`, once a second, keyed by the service.

Run: pip install confluent-kafka; python examples/produce-metrics.py [host:port]
"""

import json
import math
import random
import sys
import time

from confluent_kafka import Producer

producer = Producer(
    {
        "bootstrap.servers": sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092",
        # The hash of Java and kafkajs clients, so that a service stays in one partition whoever produces.
        "partitioner": "murmur2_random",
    }
)

second = 0
try:
    while True:
        sample = {
            "name": "queue_length",
            "labels": {"service": "checkout"},
            "timestamp": int(time.time() * 1000),
            "value": 50 + 30 * math.sin(2 * math.pi * second / 60) + 5 * random.random(),
        }
        producer.produce("metrics", key="checkout", value=json.dumps(sample))
        producer.poll(0)
        print(sample["timestamp"], sample["name"], round(sample["value"], 1), flush=True)
        second += 1
        time.sleep(1)
except KeyboardInterrupt:
    pass
finally:
    producer.flush(5)
