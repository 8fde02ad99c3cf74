"""Files of annotated objects as people have them: COCO's JSON, YOLO's text files and VOC's XML."""
