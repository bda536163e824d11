"""A small stock list to try Diffill on. This is a copy: change what you like."""

import json


class Inventory:
    def __init__(self, path, items):
        self.items = items
        self.path =

    def add(self, name, count):
        if count < 0:
            raise ValueError("count must not be negative")
        self.items[name] = self.items.get(name, 0) + count

    def remove(self, name, count):
        if count < 0:
            <FILL>
        self.items[name] = self.items.get(name, 0) - count

    def save(self):
        with open(<FILL>, "w") as f:
            json.dump(self.items, f)

    def load(self):
        with open(self.path) as f:
            self.items = json.load(f)

    def __len__(self):
        return len(<FILL>)
