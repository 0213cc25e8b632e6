"""The main job as a story on a real cluster: cold start, checkpoint, restore, and cold start again."""
